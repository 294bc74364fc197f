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
    """Yield an empty, locked folder next to `out`: the caller renames it to `out`, or it is removed.

    Other callers with the same `out` wait. Leftovers of a killed process are removed. Raises ConfigError if the folder
    cannot be made, PreflightRefused if the disk is full or read-only; nothing remains in either case.
    """
    folder = out.with_name(f".{out.name}.building")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(folder)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made: {error.strerror}.", "Choose another folder.") from None
    try:
        for leftover in folder.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield folder
    except OSError as error:
        raise PreflightRefused(
            f"{out} cannot be written: {error.strerror or error}.", "Make room, or choose another folder."
        ) from error
    finally:
        if _is_locked_folder(folder, lock):
            shutil.rmtree(folder)
        os.close(lock)


def _lock(folder: Path) -> int:
    """Return a descriptor that holds the lock on `folder`; make the folder if it does not exist."""
    while True:
        folder.mkdir(exist_ok=True)
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # its holder has just finished
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_locked_folder(folder, lock):
            return lock
        os.close(lock)


def _is_locked_folder(folder: Path, lock: int) -> bool:
    """Return True if `folder` is still the locked one: the previous holder of the lock may have renamed it."""
    try:
        return os.path.samestat(folder.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False
