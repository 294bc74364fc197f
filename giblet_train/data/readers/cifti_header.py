"""Read and check the header of a CIFTI series: `.dtseries.nii` or `.ptseries.nii`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

from giblet_train.data.geometry import CiftiParcels, Grayordinates
from giblet_train.data.readers.array_reader import ArrayReader
from giblet_train.data.readers.repetition_time import TrustTr, checked_tr
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes
from giblet_train.schema.errors import DataError

REMEDY = "Give a time series: .dtseries.nii or .ptseries.nii."


def read_cifti_header(image: Any, path: Path, tr_s: float | None, trust: TrustTr) -> Volumes:
    """Check a CIFTI image that nibabel has opened; see `headers.read_header`."""
    try:
        series, positions = (image.header.get_axis(n) for n in (0, 1))
    except (ValueError, KeyError, AttributeError, cifti2.Cifti2HeaderError) as error:
        raise DataError(f"{path} has no readable CIFTI axes: {error}.", REMEDY) from None
    if not isinstance(series, cifti2.SeriesAxis):
        raise DataError(f"{path} has no time axis; its rows are {type(series).__name__}.", REMEDY)
    geometry: Grayordinates | CiftiParcels
    if isinstance(positions, cifti2.BrainModelAxis):
        geometry = Grayordinates.of(positions)
    elif isinstance(positions, cifti2.ParcelsAxis):
        geometry = CiftiParcels.of(positions)
    else:
        raise DataError(f"{path} has no brain; its columns are {type(positions).__name__}.", REMEDY)
    n_trs = len(series)
    if image.shape != (n_trs, len(positions)):
        shape = " x ".join(map(str, image.shape))
        raise DataError(f"{path} has {shape} values, its axes {n_trs} x {len(positions)}.", "Copy it again.")
    step = float(series.step) if series.unit == "SECOND" else 0.0
    seconds, notes = checked_tr(step, "sec", read_sidecar(path), tr_s, trust, path)
    reader = ArrayReader(path, n_trs, lambda: _values(path))
    return Volumes(path, geometry, n_trs, n_trs, seconds, reader, notes=notes)


def _values(path: Path) -> NDArray[Any]:
    image: Any = nibabel.load(path)
    return np.asanyarray(image.dataobj)
