"""Stream the volumes of NIfTI files, read masks and maps, and write matrices back as NIfTI.

T TRs, B TRs of one chunk, V voxels of a mask in C order, N voxels of a volume in file order, X Y Z grid.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.nifti_header import AFFINE_TOLERANCE_MM, ALIGNED, UNREADABLE, Volumes, times
from giblet_train.schema.errors import DataError

try:
    from isal.igzip import open as open_gzip
except ImportError:
    open_gzip = gzip.open

CHUNK_BYTES = 4 * 1024 * 1024
PRESENCE_TRS = 8

GZIP_MAGIC = b"\x1f\x8b"


def stream(
    volumes: Volumes, mask_XYZ: NDArray[np.bool_], n_trs: int | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read the masked volumes in order, once, a few at a time.

    Yields (index of the chunk's first TR, (B, V) float32) over the first n_trs volumes (all if None); memory does not
    depend on the number of TRs. The checksum of a compressed file is verified if all of it is read.
    Raises DataError if a file ends early or is damaged.
    """
    remaining = volumes.n_trs if n_trs is None else min(n_trs, volumes.n_trs)
    start = 0
    for run in (volumes, *volumes.later_runs):
        if remaining:
            yield from (
                (start + done, bold_BV) for done, bold_BV in _stream_file(run, mask_XYZ, min(remaining, run.file_trs))
            )
        remaining -= min(remaining, run.file_trs)
        start += run.file_trs


def _stream_file(
    volumes: Volumes, mask_XYZ: NDArray[np.bool_], n_trs: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    columns_V = _file_columns(mask_XYZ)
    chunk = max(1, CHUNK_BYTES // (volumes.n_voxels * volumes.dtype.itemsize))
    n_read = 0
    try:
        with _open(volumes.path) as file:
            _skip(file, volumes.offset_bytes)
            while n_read < n_trs:
                raw_BN = np.empty((min(chunk, n_trs - n_read), volumes.n_voxels), volumes.dtype)
                got = _fill(file, raw_BN) // (volumes.n_voxels * volumes.dtype.itemsize)
                if got < len(raw_BN):
                    raise EOFError
                yield n_read, _scaled(np.take(raw_BN, columns_V, axis=1), volumes)
                n_read += len(raw_BN)
            if n_trs == volumes.file_trs:
                while file.read(1 << 20):
                    pass
    except EOFError:
        raise DataError(
            f"{volumes.path} is truncated: the header promises {volumes.file_trs} volumes, "
            f"the file ends inside one of volumes {n_read + 1} to {min(n_read + chunk, volumes.n_trs)}.",
            "Copy it again from its source.",
        ) from None
    except (OSError, zlib.error, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{volumes.path} cannot be read: {error.strerror}.") from None
        raise DataError(f"{volumes.path} is damaged: {error}.", "Copy it again from its source.") from None


def _scaled(raw_BV: NDArray[Any], volumes: Volumes) -> NDArray[np.float32]:
    bold_BV = raw_BV.astype(np.float32)
    if volumes.slope != 1.0:
        bold_BV *= np.float32(volumes.slope)
    if volumes.intercept != 0.0:
        bold_BV += np.float32(volumes.intercept)
    return bold_BV


def _file_columns(mask_XYZ: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the positions of the mask's voxels (C order) in a volume that is stored with X running fastest."""
    return np.ravel_multi_index(np.nonzero(mask_XYZ), mask_XYZ.shape, order="F")


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
    opened: IO[bytes] = (open_gzip if zipped else open)(path, "rb")
    return opened


def _skip(file: IO[bytes], n_bytes: int) -> None:
    while n_bytes:
        read = len(file.read(min(n_bytes, 1 << 20)))
        if not read:
            raise EOFError
        n_bytes -= read


def _fill(file: Any, array: NDArray[Any]) -> int:
    view = array.view(np.uint8).reshape(-1).data
    n_filled = 0
    while n_filled < len(view):
        read = file.readinto(view[n_filled:])
        if not read:
            break
        n_filled += read
    return n_filled


def nonzero_voxels(volumes: Volumes) -> NDArray[np.bool_]:
    """Return (X, Y, Z): voxels with a finite value other than zero in one of the first volumes that have any.

    A voxel outside the scanned or masked region is zero throughout; a few volumes distinguish it from one that passes
    through zero. Volumes that are zero altogether, such as dummy scans, do not count. Raises DataError.
    """
    nonzero_N, n_volumes = np.zeros(volumes.n_voxels, bool), 0
    for _, bold_BN in stream(volumes, np.ones(volumes.shape_XYZ, bool)):
        nonzero_BN = (bold_BN != 0) & np.isfinite(bold_BN)
        nonzero_BN = nonzero_BN[nonzero_BN.any(axis=1)][: PRESENCE_TRS - n_volumes]
        nonzero_N |= nonzero_BN.any(axis=0)
        n_volumes += len(nonzero_BN)
        if n_volumes >= PRESENCE_TRS:
            break
    if not n_volumes:
        raise DataError(
            f"{volumes.path} is zero throughout.", "Copy it again, or leave the subject out by data.subjects."
        )
    return nonzero_N.reshape(volumes.shape_XYZ)


def read_mask(path: Path, like: Volumes) -> NDArray[np.bool_]:
    """Read the non-zero voxels of a 3-D NIfTI file, (X, Y, Z). Raises DataError if it is on another grid."""
    values_XYZ = read_map(path, like.shape_XYZ, like.affine, "data.mask is `vote` or a NIfTI file.")
    mask_XYZ: NDArray[np.bool_] = np.isfinite(values_XYZ) & (values_XYZ != 0)
    return mask_XYZ


def read_map(path: Path, shape_XYZ: tuple[int, ...], affine: NDArray[np.float64], remedy: str) -> NDArray[Any]:
    """Read the values of a 3-D NIfTI file, (X, Y, Z). Raises DataError if it is unreadable or on another grid."""
    try:
        image: Any = nibabel.load(path)
        values_XYZ = np.asarray(image.dataobj)
    except UNREADABLE as error:
        raise DataError(f"{path} is not a readable mask: {error}.", remedy) from None
    if values_XYZ.shape != tuple(shape_XYZ) or np.abs(image.affine - affine).max() > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"{path} is not on the grid of the BOLD files ({times(tuple(shape_XYZ))} voxels).",
            "Resample the mask to their grid with nearest-neighbour interpolation.",
        )
    return values_XYZ


def write_bold(
    path: Path,
    bold_TV: NDArray[np.floating[Any]],
    mask_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    tr_s: float,
    space_code: int = ALIGNED,
) -> None:
    """Put a (T, V) matrix back on the grid as a float32 NIfTI file, 0 outside the mask, TR in seconds."""
    volume_XYZT = np.zeros((*mask_XYZ.shape, len(bold_TV)), np.float32)
    volume_XYZT[mask_XYZ] = bold_TV.T
    image = _image(volume_XYZT, affine, space_code)
    image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    nibabel.save(image, path)


def write_map(
    path: Path,
    values_V: NDArray[np.floating[Any]],
    mask_XYZ: NDArray[np.bool_],
    affine: NDArray[np.float64],
    space_code: int = ALIGNED,
) -> None:
    """Put one number a voxel back on the grid as a float32 NIfTI file, 0 outside the mask."""
    volume_XYZ = np.zeros(mask_XYZ.shape, np.float32)
    volume_XYZ[mask_XYZ] = values_V
    nibabel.save(_image(volume_XYZ, affine, space_code), path)


def _image(volume: NDArray[np.float32], affine: NDArray[np.float64], space_code: int) -> Any:
    image: Any = nibabel.Nifti1Image(volume, affine)
    image.set_sform(affine, space_code)
    image.set_qform(affine, space_code)
    image.header.set_xyzt_units("mm", "sec")
    return image
