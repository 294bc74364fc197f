"""Read and check the header of a NIfTI file: grid, orientation, repetition time, scaling.

X Y Z grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import ALIGNED, VolumeGrid, times
from giblet_train.data.readers.nifti import NiftiReader
from giblet_train.data.readers.repetition_time import HeaderNote, TrustTr, checked_tr
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes
from giblet_train.schema.errors import DataError

LEAST_MM, MOST_MM = 1.0, 400.0
"""Lengths of a grid along its longest axis between which there is a brain: any animal's, and a person's head."""


def read_nifti_header(image: Any, path: Path, tr_s: float | None, trust: TrustTr) -> Volumes:
    """Check a NIfTI image that nibabel has opened; see `headers.read_header`."""
    header = image.header
    shape, notes = _four_dimensions(image.shape, path)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"{path} holds {dtype}, not one number per voxel.", "Convert it to int16 or float32.")
    zooms, unit = header.get_zooms(), header.get_xyzt_units()[1]
    seconds, tr_notes = checked_tr(float(zooms[len(zooms) - 1]), unit, read_sidecar(path), tr_s, trust, path)
    x, y, z, n_trs = shape
    _check_affine(image.affine, path)
    data_path = Path(image.file_map["image"].filename)
    space_code = int(header["sform_code"]) or int(header["qform_code"]) or ALIGNED
    return Volumes(
        path=data_path,
        geometry=VolumeGrid.of((x, y, z), image.affine, space_code),
        n_trs=n_trs,
        file_trs=n_trs,
        tr_s=seconds,
        reader=NiftiReader(
            path=data_path,
            n_voxels=x * y * z,
            n_trs=n_trs,
            dtype=dtype,
            slope=float(image.dataobj.slope),
            intercept=float(image.dataobj.inter),
            offset_bytes=int(image.dataobj.offset),
        ),
        notes=(*tr_notes, *notes, *_orientation_notes(header, path), *_size_notes(shape[:3], image.affine, path)),
    )


def _check_affine(affine: NDArray[np.float64], path: Path) -> None:
    """Raise DataError if voxels have no place, or several of them the same."""
    is_finite = bool(np.isfinite(affine).all())
    if is_finite and abs(np.linalg.det(affine[:3, :3])) > 0:
        return
    fault = "puts voxels at one place" if is_finite else "holds values that are not numbers"
    raise DataError(
        f"{path} has an affine that {fault}.",
        "Take the affine of the same scan before the step that broke it, such as its raw file.",
    )


def _size_notes(shape: Sequence[int], affine: NDArray[np.float64], path: Path) -> tuple[HeaderNote, ...]:
    """Note a grid that no head fits: its first axis may be time, or its unit not millimetres."""
    sides_mm = np.array(shape) * np.linalg.norm(affine[:3, :3], axis=0)
    if LEAST_MM <= sides_mm.max() <= MOST_MM:
        return ()
    size = times([f"{side:.3g}" for side in sides_mm])
    sentence = (
        f"{path.name}: the grid is {size} mm, {'larger' if sides_mm.max() > MOST_MM else 'smaller'} than a head; time "
        "may be one of its first three axes, or its unit not millimetres."
    )
    return (HeaderNote("grid_size", sentence),)


def _four_dimensions(shape: Sequence[int], path: Path) -> tuple[tuple[int, int, int, int], tuple[HeaderNote, ...]]:
    """Return the shape without axes of length 1 beyond the third, as AFNI writes them. Raises DataError if not 4-D."""
    dimensions = [*shape[:3], *(n for n in shape[3:] if n > 1)]
    if len(dimensions) != 4:
        of_volumes = len(shape) == 4
        n_volumes = "no volume" if of_volumes and not shape[3] else "only one volume"
        raise DataError(
            f"{path} has {n_volumes}; BOLD is a series of them."
            if of_volumes
            else f"{path} has {len(shape)} dimensions ({times(shape)}); BOLD needs 4: three of space and time.",
            "Give the whole series, not one volume or a map.",
        )
    x, y, z, n_trs = (int(n) for n in dimensions)
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
