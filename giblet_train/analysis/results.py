"""Print the results of an analysis as JSON or text, and write both to a folder if one is given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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


def make_output_dir(path: Path | None) -> Path | None:
    """Create and return the output folder. Raises ConfigError if it is not empty or cannot be created."""
    if path is None:
        return None
    folder = path.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            return folder
    except OSError as error:
        raise ConfigError(f"{folder} cannot be created: {error.strerror}.", "Name another folder.") from None
    raise ConfigError(f"{folder} exists and is not an empty folder.", "Name a new one.")


def write_results(
    name: str, figures: Mapping[str, Any], lines: Sequence[str], folder: Path | None, as_json: bool
) -> str:
    """Return the text to print, and write NAME.json and NAME.txt to the folder. NaN becomes null in JSON."""
    as_text, encoded = "\n".join(lines), msgspec.json.encode(figures)
    if folder is not None:
        (folder / f"{name}.json").write_bytes(msgspec.json.format(encoded) + b"\n")
        (folder / f"{name}.txt").write_text(as_text + "\n", encoding="utf-8")
    return encoded.decode() if as_json else as_text
