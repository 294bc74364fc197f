"""Paths of time series that are more than one file, or a part of one.

`sub-01.h5::film` is the dataset `film` of a file, `sub-01.nii.gz::946-1975` its volumes from 946 to 1975, counted from
0, and the name of a left hemisphere means both.
"""

from __future__ import annotations

import re
from pathlib import Path

from giblet_train.schema.errors import DataError

SEPARATOR = "::"
LEFT = (
    re.compile(r"(?P<before>.*hemi-)(?P<side>L|left)(?P<after>[_.].*)"),
    re.compile(r"(?P<before>(?:.*[._-])?)(?P<side>lh)(?P<after>[._-].*)"),
    re.compile(r"(?P<before>.*[._-])(?P<side>L)(?P<after>[._-].*)"),
)
"""How names of left hemispheres are written."""
RIGHT = {"L": "R", "left": "right", "lh": "rh"}


def split_dataset(path: Path) -> tuple[Path, str]:
    """Return the file and the dataset or volumes in it, "" for all of it."""
    file, _, dataset = str(path).partition(SEPARATOR)
    return Path(file), dataset


def volume_range(path: Path) -> tuple[int, int] | None:
    """Return the first and the last volume that a path names; None for all. Raises DataError for a bad range."""
    _, part = split_dataset(path)
    if not part:
        return None
    match = re.fullmatch(r"(\d+)-(\d+)", part)
    if match is None or int(match[1]) >= int(match[2]):
        raise DataError(f"{path}: {part!r} is no range of volumes.", "Write the first and the last one: ::946-1975.")
    return int(match[1]), int(match[2])


def hemispheres(path: Path) -> tuple[Path, Path]:
    """Return the files of the left and the right hemisphere. Raises DataError unless `path` is named as a left one."""
    for pattern in LEFT:
        if match := pattern.fullmatch(path.name):
            return path, path.with_name(match["before"] + RIGHT[match["side"]] + match["after"])
    raise DataError(
        f"{path} is not named as a left hemisphere.",
        "Name the file of the left one, with hemi-L, .L. or lh. in it; the right one is found next to it.",
    )


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that hold a series."""
    file, _ = split_dataset(path)
    if file.suffix not in (".gii", ".annot"):
        return (file,)
    try:
        return hemispheres(file)
    except DataError:
        return (file,)


def missing_file(path: Path) -> Path | None:
    """Return the first file of a series that does not exist, or None."""
    return next((file for file in files_of(path) if not file.is_file()), None)
