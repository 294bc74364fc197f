"""Read BOLD volumes: check the NIfTI header, stream the volumes once, and write a matrix back as NIfTI.

T TRs, B TRs of one chunk, V voxels of a mask in C order, N voxels of a volume in file order, X Y Z grid.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from giblet_train.schema.errors import DataError

try:
    from isal.igzip import open as open_gzip
except ImportError:
    open_gzip = gzip.open

CHUNK_BYTES = 4 * 1024 * 1024
PRESENCE_TRS = 8
TR_TOLERANCE = 1e-3
LONGEST_TR_S = 30.0
AFFINE_TOLERANCE_MM = 1e-2
ALIGNED = 2
"""NIfTI code for "aligned to another image", written if the space is unknown."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Volumes:
    """Header of a subject's 4-D file, possibly followed by the files of later runs."""

    path: Path
    shape_XYZ: tuple[int, int, int]
    """Voxels along each axis."""
    n_trs: int
    """Volumes of all runs."""
    file_trs: int
    """Volumes of this file."""
    tr_s: float
    """Seconds per volume."""
    affine: NDArray[np.float64]
    """(4, 4), voxel to mm."""
    dtype: np.dtype[Any]
    slope: float
    """value = raw·slope + intercept."""
    intercept: float
    offset_bytes: int
    """Position of the first volume in the file."""
    space_code: int = ALIGNED
    """NIfTI code of the space of the affine, 4 for MNI."""
    notes: tuple[str, ...] = ()
    """A sentence for each thing in the headers that had to be interpreted."""
    later_runs: tuple[Volumes, ...] = ()
    """Headers of the following runs."""

    @property
    def run_lengths_trs(self) -> tuple[int, ...]:
        """Volumes of each run."""
        return (self.file_trs, *(run.file_trs for run in self.later_runs))

    @property
    def n_voxels(self) -> int:
        """N: voxels of one volume."""
        return int(np.prod(self.shape_XYZ))


def read_headers(paths: Sequence[Path], tr_s: float) -> Volumes:
    """Read the headers of a subject's runs as one series. Raises DataError, also if their grids differ."""
    first, *later = (read_header(path, tr_s) for path in paths)
    for run in later:
        check_same_grid(first, run)
    if not later:
        return first
    runs = (first, *later)
    return replace(
        first,
        n_trs=sum(run.n_trs for run in runs),
        notes=tuple(note for run in runs for note in run.notes),
        later_runs=tuple(later),
    )


def read_header(path: Path, tr_s: float) -> Volumes:
    """Read and check the header of a .nii or .nii.gz file.

    A TR in milliseconds is converted and a missing TR is replaced by the stated one, each with a note. Raises DataError
    for a file that is missing, unreadable, not 4-D or has another TR.

    Args:
        tr_s: TR of the configuration.
    """
    try:
        image: Any = nibabel.load(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", "Check data.data_dir, data.bold and data.subjects.") from None
    except (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is not a readable NIfTI file: {error}.", "Copy it again from its source.") from None
    if not isinstance(image, nibabel.Nifti1Image):
        kind = type(image).__name__
        if kind in ("GiftiImage", "Cifti2Image"):
            raise DataError(
                f"{path} is a {kind}, which holds a surface; giblet reads volumes only.",
                "Give the volumes of the same preprocessing; fMRIPrep writes both.",
            )
        raise DataError(f"{path} is a {kind}, not NIfTI.", "Convert it to .nii.gz.")
    header = image.header
    if len(image.shape) != 4:
        raise DataError(
            f"{path} has {len(image.shape)} dimensions ({' x '.join(map(str, image.shape))}); "
            "BOLD needs 4: three of space and time.",
            "Give the whole series, not one volume or a map.",
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype}, not one number a voxel.", "Convert it to int16 or float32.")
    seconds, notes = _checked_tr(header, tr_s, path)
    x, y, z, n_trs = (int(n) for n in image.shape)
    return Volumes(
        path=path,
        shape_XYZ=(x, y, z),
        n_trs=n_trs,
        file_trs=n_trs,
        tr_s=seconds,
        affine=np.asarray(image.affine, float),
        dtype=dtype,
        slope=float(image.dataobj.slope),
        intercept=float(image.dataobj.inter),
        offset_bytes=int(image.dataobj.offset),
        space_code=int(header["sform_code"]) or int(header["qform_code"]) or ALIGNED,
        notes=notes,
    )


def _checked_tr(header: Any, stated_s: float, path: Path) -> tuple[float, tuple[str, ...]]:
    value = float(header.get_zooms()[3])
    unit = header.get_xyzt_units()[1]
    if not np.isfinite(value) or value <= 0:
        return stated_s, (f"{path.name}: the header has no TR; data.tr = {stated_s:g} s is used.",)
    seconds = value * {"msec": 1e-3, "usec": 1e-6}.get(unit, 1.0)
    notes: tuple[str, ...] = ()
    if seconds > LONGEST_TR_S:
        seconds /= 1000.0
    if seconds != value:
        notes = (f"{path.name}: the header's TR {value:g} is read as milliseconds, {seconds:g} s.",)
    if unit == "usec":
        notes = (f"{path.name}: the header's TR {value:g} is read as microseconds, {seconds:g} s.",)
    if abs(seconds - stated_s) > TR_TOLERANCE * stated_s:
        raise DataError(
            f"{path}: the header's TR is {seconds:g} s, data.tr is {stated_s:g} s.",
            f"If the header is right, set data.tr: {seconds:g}; if not, correct the header.",
        )
    return stated_s, notes


def check_same_grid(first: Volumes, other: Volumes) -> None:
    """Raise DataError where two files differ in grid or in affine."""
    a, b = first.path.name, other.path.name
    if first.shape_XYZ != other.shape_XYZ:
        raise DataError(
            f"{b} has a grid of {_times(other.shape_XYZ)} voxels, {a} of {_times(first.shape_XYZ)}.",
            "All subjects must be on one grid: resample to one template, or leave the subject out by data.subjects.",
        )
    gap_mm = float(np.abs(_corners(first) - _corners(other)).max())
    if gap_mm > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"{b} and {a} have the same number of voxels but other affines: corners are up to {gap_mm:.3g} mm apart.",
            "Resample to the same template, or leave the subject out by data.subjects.",
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _corners(volumes: Volumes) -> NDArray[np.float64]:
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in volumes.shape_XYZ], [1.0], indexing="ij"), float)
    corners: NDArray[np.float64] = (volumes.affine @ ends.reshape(4, -1))[:3]
    return corners


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
    """Return (X, Y, Z): voxels with a finite value other than zero in one of the first volumes. Raises DataError.

    A voxel outside the scanned or masked region is zero throughout; a few volumes distinguish it from one that passes
    through zero.
    """
    found_N = np.zeros(volumes.n_voxels, bool)
    for _, bold_BN in stream(volumes, np.ones(volumes.shape_XYZ, bool), n_trs=PRESENCE_TRS):
        found_N |= ((bold_BN != 0) & np.isfinite(bold_BN)).any(axis=0)
    return found_N.reshape(volumes.shape_XYZ)


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
    except (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is not a readable mask: {error}.", remedy) from None
    if values_XYZ.shape != tuple(shape_XYZ) or np.abs(image.affine - affine).max() > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"{path} is not on the grid of the BOLD files ({_times(tuple(shape_XYZ))} voxels).",
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
