"""The folder that a person names."""

from __future__ import annotations

from pathlib import Path

from giblet_train.schema.errors import ConfigError


def require_folder(folder: Path) -> None:
    """Raise ConfigError if this is no folder."""
    if folder.is_dir():
        return
    if folder.exists():
        raise ConfigError(f"{folder} is a file, not a folder.", f"Name the folder that contains it: {folder.parent}")
    raise ConfigError(f"There is no folder {folder}.", "Give the folder as ~/FOLDER or /FOLDER on the node.")
