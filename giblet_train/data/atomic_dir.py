"""A folder that appears whole or not at all, made by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from giblet_train.schema.errors import ConfigError, PreflightRefused


@contextmanager
def atomic_directory(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, ours alone until the end: rename it to `out`, or it goes away with all in it.

    Others who ask for the same `out` wait. What a killed process left is cleared. Raises ConfigError where no folder
    can be made, PreflightRefused when the disk is full or takes no more; nothing is then left.
    """
    folder = out.with_name(f".{out.name}.building")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error.strerror}.", "Choose another folder.") from None
    try:
        for left in folder.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield folder
    except OSError as error:
        raise PreflightRefused(
            f"{out} cannot be written: {error.strerror or error}.", "Make room, or choose another folder."
        ) from error
    finally:
        if _names(folder, lock):
            shutil.rmtree(folder)
        os.close(lock)


def _lock(folder: Path) -> int:
    """A descriptor that locks the folder that `folder` names, which is made if need be."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # whoever held it has just finished
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _names(folder, lock):
            return lock
        os.close(lock)


def _names(folder: Path, lock: int) -> bool:
    """Whether `folder` is still the one locked: whoever held the lock before may have renamed it."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False
