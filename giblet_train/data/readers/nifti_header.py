"""Read and check the header of a BOLD file: grid, orientation, repetition time, scaling.

X Y Z grid.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from giblet_train.data.readers.repetition_time import HeaderNote, TrustTr, checked_tr
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.schema.errors import DataError

AFFINE_TOLERANCE_MM = 1e-2
UNREADABLE = (ImageFileError, HeaderDataError, EOFError, OSError, zlib.error, ValueError)
ALIGNED = 2
"""NIfTI code for "aligned to another image", written if the space is unknown."""


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
    notes: tuple[HeaderNote, ...] = ()
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

    def part(self, first: int, n_trs: int) -> Volumes:
        """Return some volumes of this file alone."""
        skipped = first * self.n_voxels * self.dtype.itemsize
        return replace(self, offset_bytes=self.offset_bytes + skipped, file_trs=n_trs, n_trs=n_trs)


def read_headers(paths: Sequence[Path], tr_s: float, trust: TrustTr = None) -> Volumes:
    """Read the headers of a subject's runs as one series. Raises DataError, also if their grids differ."""
    first, *later = (read_header(path, tr_s, trust) for path in paths)
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


def read_header(path: Path, tr_s: float, trust: TrustTr = None) -> Volumes:
    """Read and check the header of a NIfTI file, with the sidecar next to it.

    Whatever must be interpreted gets a note. Raises DataError for a file that is missing, unreadable, not 4-D or has
    another TR.

    Args:
        tr_s: TR of the configuration.
        trust: Source of the TR if header, sidecar and configuration disagree; see `checked_tr`.
    """
    image = _load(path)
    header = image.header
    shape, notes = _four_dimensions(image.shape, path)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype}, not one number per voxel.", "Convert it to int16 or float32.")
    zooms, unit = header.get_zooms(), header.get_xyzt_units()[1]
    seconds, tr_notes = checked_tr(float(zooms[len(zooms) - 1]), unit, read_sidecar(path), tr_s, trust, path)
    x, y, z, n_trs = shape
    return Volumes(
        path=Path(image.file_map["image"].filename),
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
        notes=(*tr_notes, *notes, *_orientation_notes(header, path)),
    )


def _load(path: Path) -> Any:
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link whose content is not on this machine.",
            f"Fetch it, for a datalad or git-annex dataset with: datalad get {path}",
        )
    try:
        image: Any = nibabel.load(path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", "Check data.data_dir, data.bold and data.subjects.") from None
    except UNREADABLE as error:
        raise DataError(f"{path} is not a readable NIfTI file: {error}.", "Copy it again from its source.") from None
    if isinstance(image, nibabel.Nifti1Pair):
        return image
    kind = type(image).__name__
    if kind in ("GiftiImage", "Cifti2Image"):
        raise DataError(
            f"{path} is a {kind}, which holds a surface; giblet reads volumes only.",
            "Give the volumes of the same preprocessing; fMRIPrep writes both.",
        )
    raise DataError(f"{path} is a {kind}, not NIfTI.", "Convert it to .nii.gz.")


def _four_dimensions(shape: Sequence[int], path: Path) -> tuple[tuple[int, int, int, int], tuple[HeaderNote, ...]]:
    """Return the shape without axes of length 1 beyond the third, as AFNI writes them. Raises DataError if not 4-D."""
    squeezed = [*shape[:3], *(n for n in shape[3:] if n > 1)]
    if len(squeezed) != 4:
        raise DataError(
            f"{path} has {len(shape)} dimensions ({times(shape)}); BOLD needs 4: three of space and time.",
            "Give the whole series, not one volume or a map.",
        )
    x, y, z, n_trs = (int(n) for n in squeezed)
    if len(shape) == 4:
        return (x, y, z, n_trs), ()
    sentence = f"{path.name}: the header has {len(shape)} dimensions ({times(shape)}); those of length 1 are dropped."
    return (x, y, z, n_trs), (HeaderNote("extra_dimension", sentence),)


def _orientation_notes(header: Any, path: Path) -> tuple[HeaderNote, ...]:
    """Note if qform and sform disagree, or if neither says where left is."""
    if not header["sform_code"] and not header["qform_code"]:
        sentence = f"{path.name}: the header has neither qform nor sform, so left and right are unknown."
        return (HeaderNote("orientation_unknown", sentence),)
    if not header["sform_code"] or not header["qform_code"]:
        return ()
    gap_mm = float(np.abs(header.get_sform() - header.get_qform()).max())
    flipped = np.linalg.det(header.get_sform()[:3, :3]) * np.linalg.det(header.get_qform()[:3, :3]) < 0
    if gap_mm <= 1.0 and not flipped:
        return ()
    about = "about left and right" if flipped else f"by up to {gap_mm:.3g} mm"
    sentence = f"{path.name}: qform and sform of the header disagree {about}; the sform is used."
    return (HeaderNote("orientation_conflict", sentence),)


def check_same_grid(first: Volumes, other: Volumes) -> None:
    """Raise DataError where two files differ in grid or in affine."""
    a, b = first.path.name, other.path.name
    if first.shape_XYZ != other.shape_XYZ:
        raise DataError(
            f"{b} has a grid of {times(other.shape_XYZ)} voxels, {a} of {times(first.shape_XYZ)}.",
            "All subjects must be on one grid: resample to one template, or leave the subject out by data.subjects.",
        )
    gap_mm = float(np.abs(_corners(first) - _corners(other)).max())
    if gap_mm > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"{b} and {a} have the same number of voxels but other affines: corners are up to {gap_mm:.3g} mm apart.",
            "Resample to the same template, or leave the subject out by data.subjects.",
        )


def times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _corners(volumes: Volumes) -> NDArray[np.float64]:
    ends = np.array(np.meshgrid(*[(0, n - 1) for n in volumes.shape_XYZ], [1.0], indexing="ij"), float)
    corners: NDArray[np.float64] = (volumes.affine @ ends.reshape(4, -1))[:3]
    return corners
