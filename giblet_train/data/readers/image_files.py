"""Open image files with nibabel, with clear errors."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import nibabel
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from giblet_train.schema.errors import DataError

UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError, ExpatError)

POINTER_BYTES = 1024
"""Files as small as this may be pointers to data elsewhere."""
POINTERS = {
    b"/annex/objects/": ("git-annex", "datalad get"),
    b"version https://git-lfs": ("Git LFS", "git lfs pull --include"),
}
"""Text in a pointer -> the program that made it, and the command that fetches the content."""


def is_absent(path: Path) -> bool:
    """Return True for a link or a pointer whose content is not on this machine."""
    if path.is_symlink() and not path.exists():
        return True
    return path.is_file() and path.stat().st_size < POINTER_BYTES and any(mark in _start(path) for mark in POINTERS)


def check_present(path: Path) -> None:
    """Raise DataError for what is not a file, cannot be read, or is a link or a pointer without content."""
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link whose content is not on this machine.",
            f"Fetch it, for a datalad or git-annex dataset with: datalad get {path}",
        )
    if not path.exists():
        raise DataError(f"{path} does not exist.", "Check data.data_dir, data.bold and data.subjects.")
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'not a file'}.", "Name one file.")
    start = _start(path)
    for mark, (program, command) in POINTERS.items():
        if mark in start and len(start) < POINTER_BYTES:
            raise DataError(
                f"{path} is a pointer of {program}; its content is not on this machine.", f"{command} {path}"
            )


def _start(path: Path) -> bytes:
    """Return the first bytes of a file. Raises DataError."""
    try:
        with path.open("rb") as file:
            return file.read(POINTER_BYTES)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Check who may read it.") from None


def _begins_as_nifti(path: Path) -> bool:
    """Return True for a file that begins with the size of a NIfTI header, uncompressed."""
    with open(path, "rb") as file:
        start = file.read(4)
    return any(int.from_bytes(start, order) in (348, 540) for order in ("little", "big"))


def load_image(path: Path, remedy: str) -> Any:
    """Open an image with nibabel. Raises DataError if it is unreadable."""
    try:
        return nibabel.load(path)
    except UNREADABLE as error:
        if path.name.endswith(".nii.gz") and _begins_as_nifti(path):
            raise DataError(
                f"{path} is not compressed, though its name says so.", "Rename it to .nii, or compress it: gzip."
            ) from None
        raise DataError(f"{path} is not a readable image: {error}.", remedy) from None
