"""Print the results of an analysis as JSON or text, and write both to a folder if one is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from giblet_train.schema.errors import ConfigError


def check_output_dir(path: Path) -> Path:
    """Return the path of a folder that is made when its content is complete.

    Raises ConfigError if it is not empty or cannot be created.
    """
    folder = path.expanduser()
    try:
        if folder.is_dir() and not any(folder.iterdir()):
            return folder
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}.", "Name another folder.") from None
    if folder.exists():
        raise ConfigError(f"{folder} exists and is not an empty folder.", "Name a new one.")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be created in {above}.", "Name another folder.")
    return folder


@contextmanager
def output_dir(path: Path | None) -> Iterator[Path | None]:
    """Create and yield the output folder; None for None. If the block fails, folders that are still empty are removed.

    Raises ConfigError if it is not empty or cannot be created.
    """
    if path is None:
        yield None
        return
    folder = path.expanduser()
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder} cannot be created: {error.strerror}.", "Name another folder.") from None
    if not is_empty:
        raise ConfigError(f"{folder} exists and is not an empty folder.", "Name a new one.")
    try:
        yield folder
    except BaseException:
        for parent in new:
            with suppress(OSError):
                parent.rmdir()
        raise


def write_results(
    name: str, figures: Mapping[str, Any], lines: Sequence[str], folder: Path | None, as_json: bool
) -> str:
    """Return the text to print, and write NAME.json and NAME.txt to the folder. NaN becomes null in JSON."""
    as_text, encoded = "\n".join(lines), msgspec.json.encode(figures)
    if folder is not None:
        (folder / f"{name}.json").write_bytes(msgspec.json.format(encoded) + b"\n")
        (folder / f"{name}.txt").write_text(as_text + "\n", encoding="utf-8")
    return encoded.decode() if as_json else as_text
