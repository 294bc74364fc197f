"""Write a series of volumes as NIfTI while it is being computed, so that memory does not grow with its length.

X Y Z grid, V voxels of the mask.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.portable.model_file import ModelFile

HEADER_BYTES = 352
"""A NIfTI-1 header of 348 bytes, and 4 bytes that say that no extension follows."""
ZIP_LEVEL = 1


class NiftiSeries:
    """A .nii.gz file of float32 volumes on a model's grid that grows volume by volume."""

    def __init__(self, path: Path, model: ModelFile, n_volumes: int, tr_s: float) -> None:
        """Create the file, and its folder, with a header for n_volumes volumes."""
        grid = model.header.grid
        path.parent.mkdir(parents=True, exist_ok=True)
        self._mask_XYZ = model.mask_XYZ
        self._file = gzip.GzipFile(path, "wb", compresslevel=ZIP_LEVEL)
        affine = np.array(grid.affine)
        image: Any = nibabel.Nifti1Image(np.zeros((1, 1, 1, 1), np.float32), affine)
        image.set_sform(affine, grid.space_code)
        image.set_qform(affine, grid.space_code)
        header = image.header
        header.set_data_shape((*grid.shape_XYZ, n_volumes))
        header.set_xyzt_units("mm", "sec")
        header.set_zooms((*header.get_zooms()[:3], tr_s))
        header["vox_offset"] = HEADER_BYTES
        self._file.write(header.binaryblock + bytes(4))

    def add(self, rows_TV: NDArray[np.float32]) -> None:
        """Append volumes."""
        for row_V in rows_TV:
            volume_XYZ = np.zeros(self._mask_XYZ.shape, np.float32)
            volume_XYZ[self._mask_XYZ] = row_V
            self._file.write(volume_XYZ.tobytes(order="F"))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
