"""Measured responses of one person, on a model's voxels and in its units.

T volumes, V voxels of the model.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from giblet_train.data.preprocessing.detrend import Block, Detrend
from giblet_train.portable.model_file import ModelFile
from giblet_train.schema.errors import DataError

Singles = NDArray[np.float32]
AFFINE_TOLERANCE_MM = 1e-2
UNREADABLE = (ImageFileError, OSError, EOFError, zlib.error, ValueError)


@dataclass(frozen=True)
class Measured:
    """A series of volumes of one person."""

    bold_TV: Singles
    """Responses, in the units of the file."""
    tr_s: float
    """Seconds per volume."""
    drift: Detrend
    """Drift that the model's responses lack."""

    def parts(self, blocks: Sequence[Block], scale: slice) -> Singles:
        """Return the rows of the blocks, one block after another, each without its drift, z-scored over some of them.

        scale: rows of the result that define mean and standard deviation.
        """
        rows_TV = np.concatenate([self.bold_TV[start:stop] for start, stop in blocks])
        rows_TV = self.drift.apply(rows_TV, blocks)
        mean_V, sd_V = rows_TV[scale].mean(axis=0), rows_TV[scale].std(axis=0)
        inverse_V = np.divide(1.0, sd_V, out=np.zeros_like(sd_V), where=sd_V > 1e-6)
        return np.asarray((rows_TV - mean_V) * inverse_V, np.float32)

    def whole(self) -> Singles:
        """Return all rows without drift, z-scored over all rows."""
        return self.parts([(0, len(self.bold_TV))], slice(None))


def read_measured(model: ModelFile, bold: Path | NDArray[Any], tr_s: float | None) -> Measured:
    """Read the series of one person.

    Args:
        model: model whose voxels are read.
        bold: NIfTI file on the model's grid, or an array (T, V) of the model's voxels.
        tr_s: seconds per volume; None for those of the file, or of the model for an array.

    Raises DataError for an unreadable file, another grid, a TR that is not stated, or values that are not finite.
    """
    if isinstance(bold, Path):
        values_TV, file_tr_s = _read_file(model, bold)
        name = str(bold)
    else:
        values_TV, file_tr_s, name = np.asarray(bold, np.float32), model.header.tr_s, "The array"
        if values_TV.ndim != 2 or values_TV.shape[1] != int(model.mask_XYZ.sum()):
            raise DataError(
                f"The array has shape {values_TV.shape}; the model has {int(model.mask_XYZ.sum())} voxels.",
                "Give (volumes, voxels), voxels in C order of model.mask.",
            )
    if not np.isfinite(values_TV).all():
        raise DataError(f"{name} has values that are not finite in the model's voxels.", "Fix the preprocessing.")
    if not (values_TV.std(axis=0) > 0).any():
        raise DataError(f"{name} never changes in the model's voxels.", "Check that it is the right file.")
    used_s = tr_s or file_tr_s
    if not used_s or used_s <= 0:
        raise DataError(f"{name} does not state its TR.", "State it with --tr.")
    kind: Any = model.header.detrend
    return Measured(values_TV, used_s, Detrend(kind, used_s))


def _read_file(model: ModelFile, path: Path) -> tuple[Singles, float]:
    """Return the series (T, V) and the TR of the header, 0 if it has none."""
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Name a NIfTI series on this machine.")
    try:
        image: Any = nibabel.load(path)
        shape = image.shape
        if len(shape) != 4 or shape[3] < 2:
            raise DataError(f"{path} is no series of volumes: its shape is {shape}.", "Give a 4-D NIfTI file.")
        _check_grid(model, path, image)
        values_TV = np.asarray(np.asanyarray(image.dataobj)[model.mask_XYZ].T, np.float32)
        zooms, units = image.header.get_zooms(), image.header.get_xyzt_units()[1]
    except UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {error}.", "Copy it again from its source.") from None
    return values_TV, float(zooms[3]) / {"msec": 1e3, "usec": 1e6}.get(units, 1.0)


def _check_grid(model: ModelFile, path: Path, image: Any) -> None:
    grid = model.header.grid
    if image.shape[:3] != tuple(grid.shape_XYZ):
        raise DataError(
            f"{path} has a grid of {image.shape[:3]} voxels; the model has {tuple(grid.shape_XYZ)}.",
            "Resample it to the model's grid: nilearn.image.resample_to_img(bold, predicted series).",
        )
    apart_mm = float(np.abs(image.affine - np.array(grid.affine)).max())
    if apart_mm > AFFINE_TOLERANCE_MM:
        raise DataError(
            f"{path} has the number of voxels of the model but another affine: up to {apart_mm:.3g} apart.",
            "Resample it to the model's grid: nilearn.image.resample_to_img(bold, predicted series).",
        )
