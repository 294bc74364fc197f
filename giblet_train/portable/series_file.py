"""Write a predicted series while it is being computed, so that memory does not grow with its length.

V positions of the mask.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import ParcelTable, VolumeGrid
from giblet_train.portable.model_file import ModelFile

HEADER_BYTES = 352
"""A NIfTI-1 header of 348 bytes, and 4 bytes that say that no extension follows."""
ZIP_LEVEL = 1
Rows = NDArray[np.float32]


class SeriesFile(Protocol):
    """A series that grows row by row."""

    def add(self, rows_TV: Rows) -> None:
        """Append rows."""

    def close(self) -> tuple[Path, ...]:
        """Finish the series; return its files."""


def series_file(stem: Path, model: ModelFile, n_rows: int, tr_s: float) -> SeriesFile:
    """Create a series of n_rows rows in the format of the model's geometry.

    Args:
        stem: path without the ending of the format.
        model: model whose positions the rows have.
        n_rows: rows that will be added.
        tr_s: seconds per row.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(model.header.geometry, VolumeGrid):
        return _NiftiSeries(stem, model.header.geometry, model.mask, n_rows, tr_s)
    return _BufferedSeries(stem, model, n_rows, tr_s)


def stem_suffix(model: ModelFile) -> str:
    """Return the BIDS suffix of a series: `timeseries` of a table of parcels, otherwise `bold`."""
    return "timeseries" if isinstance(model.header.geometry, ParcelTable) else "bold"


class _NiftiSeries:
    """A .nii.gz file of float32 volumes."""

    def __init__(self, stem: Path, grid: VolumeGrid, mask: NDArray[np.bool_], n_rows: int, tr_s: float) -> None:
        self._path = stem.with_name(f"{stem.name}.nii.gz")
        self._mask = mask
        self._file = gzip.GzipFile(self._path, "wb", compresslevel=ZIP_LEVEL)
        image: Any = nibabel.Nifti1Image(np.zeros((1, 1, 1, 1), np.float32), grid.affine)
        image.set_sform(grid.affine, grid.space_code)
        image.set_qform(grid.affine, grid.space_code)
        header = image.header
        header.set_data_shape((*grid.shape_XYZ, n_rows))
        header.set_xyzt_units("mm", "sec")
        header.set_zooms((*header.get_zooms()[:3], tr_s))
        header["vox_offset"] = HEADER_BYTES
        self._file.write(header.binaryblock + bytes(4))

    def add(self, rows_TV: Rows) -> None:
        for row_V in rows_TV:
            volume = np.zeros(self._mask.shape, np.float32)
            volume[self._mask] = row_V
            self._file.write(volume.tobytes(order="F"))

    def close(self) -> tuple[Path, ...]:
        self._file.close()
        return (self._path,)


class _BufferedSeries:
    """A series of another format, which is written from rows on disk."""

    def __init__(self, stem: Path, model: ModelFile, n_rows: int, tr_s: float) -> None:
        self._stem, self._model, self._tr_s = stem, model, tr_s
        self._buffer = stem.with_name(f".{stem.name}.rows")
        # A table has the positions of the mask alone; other formats have all, and take the rows as they are on disk.
        self._is_table = isinstance(model.header.geometry, ParcelTable)
        self._place_V = np.arange(int(model.mask.sum())) if self._is_table else np.flatnonzero(model.mask)
        n_columns = len(self._place_V) if self._is_table else model.mask.size
        self._rows_TV = np.memmap(self._buffer, np.float32, "w+", shape=(n_rows, n_columns))
        self._n_added = 0

    def add(self, rows_TV: Rows) -> None:
        self._rows_TV[self._n_added : self._n_added + len(rows_TV), self._place_V] = rows_TV
        self._n_added += len(rows_TV)

    def close(self) -> tuple[Path, ...]:
        geometry, mask = self._model.header.geometry, self._model.mask
        if not self._is_table:
            mask = np.ones_like(mask)
        try:
            paths = geometry.write_series(self._stem, self._rows_TV, mask, self._tr_s)
        finally:
            self._buffer.unlink()
        return tuple(_with_hemisphere_first(path) for path in paths)


def _with_hemisphere_first(path: Path) -> Path:
    """Rename a file of a hemisphere as BIDS orders its entities: `hemi` before `desc`."""
    for side in ("L", "R"):
        if f"_hemi-{side}" in path.name:
            name = path.name.replace(f"_hemi-{side}", "").replace("_desc-", f"_hemi-{side}_desc-")
            return path.replace(path.with_name(name))
    return path
