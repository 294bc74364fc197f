"""Read and check the two GIFTI files of a surface series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import HEMISPHERES, SurfacePair
from giblet_train.data.readers.array_reader import ArrayReader
from giblet_train.data.readers.image_files import check_present, load_image
from giblet_train.data.readers.repetition_time import TrustTr, checked_tr
from giblet_train.data.readers.series_path import hemispheres
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes
from giblet_train.schema.errors import DataError

REMEDY = "Give GIFTI series with one value per vertex and volume, such as .func.gii."
STRUCTURE = "AnatomicalStructurePrimary"


def read_gifti_header(path: Path, tr_s: float | None, trust: TrustTr) -> Volumes:
    """Check the files of both hemispheres; see `headers.read_header`.

    Args:
        path: File of the left hemisphere.
    """
    first, second = (load_hemisphere(file) for file in hemispheres(path))
    if len(first[0]) != len(second[0]):
        names = " and ".join(file.name for file in hemispheres(path))
        raise DataError(f"{names} have {len(first[0])} and {len(second[0])} volumes.", "Give the same run of both.")
    n_trs = len(first[0])
    if n_trs < 2:
        raise DataError(f"{path} has {n_trs} volume; a series has several.", REMEDY)
    seconds, notes = checked_tr(first[1], "sec", read_sidecar(path), tr_s, trust, path)
    geometry = SurfacePair(n_left=first[0].shape[1], n_right=second[0].shape[1])
    return Volumes(path, geometry, n_trs, n_trs, seconds, ArrayReader(path, n_trs, lambda: both(path)), notes=notes)


def both(path: Path) -> NDArray[Any]:
    """Return (T, N): left vertices, then right ones."""
    return np.concatenate([load_hemisphere(file)[0] for file in hemispheres(path)], axis=1)


def load_hemisphere(path: Path) -> tuple[NDArray[Any], float]:
    """Return (T, vertices), and the TR in the metadata, 0 if there is none. Raises DataError."""
    check_present(path)
    image = load_image(path, "Copy it again from its source.")
    arrays = [np.asarray(array.data) for array in getattr(image, "darrays", ())]
    if not arrays or any(a.ndim not in (1, 2) or a.shape != arrays[0].shape for a in arrays):
        raise DataError(f"{path} holds no values of vertices.", REMEDY)
    if arrays[0].ndim == 2 and len(arrays) > 1:
        raise DataError(f"{path} holds several tables; a series is one, or one row per volume.", REMEDY)
    _check_side(path, image)
    values_TN = arrays[0].T if arrays[0].ndim == 2 else np.stack(arrays)
    return values_TN, _time_step(image)


def _check_side(path: Path, image: Any) -> None:
    """Raise DataError if the metadata contradict the side in the name."""
    structure = image.meta.get(STRUCTURE) or image.darrays[0].meta.get(STRUCTURE)
    try:
        named_left = bool(hemispheres(path))
    except DataError:
        named_left = False
    if structure in HEMISPHERES.values() and (structure == HEMISPHERES["L"]) != named_left:
        raise DataError(
            f"{path.name} is {structure} by its metadata and the other hemisphere by its name.", "Correct the name."
        )


def _time_step(image: Any) -> float:
    time_step = image.meta.get("TimeStep") or image.darrays[0].meta.get("TimeStep")
    try:
        return float(time_step)
    except (TypeError, ValueError):
        return 0.0
