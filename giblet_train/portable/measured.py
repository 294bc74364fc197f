"""Measured responses of one person, on a model's voxels and in its units.

T volumes, V voxels of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import check_same_kind
from giblet_train.data.preprocessing.detrend import Block, Detrend
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.volumes import stream
from giblet_train.portable.model_file import ModelFile
from giblet_train.schema.errors import DataError

Singles = NDArray[np.float32]


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
        bold: file in the model's space (NIfTI, CIFTI, GIFTI, parcels), or an array (T, V) of the model's voxels.
        tr_s: seconds per volume; None for those of the file, or of the model for an array.

    Raises DataError for an unreadable file, another grid, a TR that is not stated, or values that are not finite.
    """
    if isinstance(bold, Path):
        values_TV, file_tr_s = _read_file(model, bold, tr_s)
        name = str(bold)
    else:
        values_TV, file_tr_s, name = np.asarray(bold, np.float32), model.header.tr_s, "The array"
        if values_TV.ndim != 2 or values_TV.shape[1] != int(model.mask.sum()):
            raise DataError(
                f"The array has shape {values_TV.shape}; the model has {int(model.mask.sum())} voxels.",
                "Give (volumes, voxels), voxels in C order of model.mask.",
            )
    if not np.isfinite(values_TV).all():
        raise DataError(f"{name} has values that are not finite in the model's voxels.", "Fix the preprocessing.")
    if not (values_TV.std(axis=0) > 0).any():
        raise DataError(f"{name} never changes in the model's voxels.", "Check that it is the right file.")
    used_s = tr_s or file_tr_s
    kind: Any = model.header.detrend
    return Measured(values_TV, used_s, Detrend(kind, used_s))


def _read_file(model: ModelFile, path: Path, tr_s: float | None) -> tuple[Singles, float]:
    """Return the series (T, V) and its TR. tr_s: a stated TR, which wins over that of the file."""
    volumes = read_header(path, tr_s, "config" if tr_s else None)
    difference = check_same_kind(model.header.geometry, volumes.geometry)
    if difference:
        raise DataError(
            f"{path} does not fit the model: it has {difference}.",
            "Resample it to the model's space, which a predicted series has: nilearn.image.resample_to_img.",
        )
    return np.concatenate([bold_BV for _, bold_BV in stream(volumes, model.mask)]), volumes.tr_s
