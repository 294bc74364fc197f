"""Smooth random maps: white Gaussian noise on the grid, smoothed without changing its variance.

Shapes: N maps, X Y Z voxels of the grid, V voxels of a mask in C order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.regions import Grid

FWHM_MM = 9.0
FWHM_PER_SD = math.sqrt(8.0 * math.log(2.0))
MAPS_AT_ONCE = 32


class SmoothMaps:
    """A source of smooth standard-normal maps on one grid, read inside one mask.

    The Gaussian kernel is separable; each of its rows has unit norm, so every voxel of a map keeps variance 1, also at
    the border of the box.
    """

    def __init__(self, grid: Grid, mask_XYZ: NDArray[np.bool_], fwhm_mm: float = FWHM_MM) -> None:
        self._shape = grid.shape
        self._mask_XYZ = mask_XYZ
        self._kernels = [_unit_kernel(n, fwhm_mm / FWHM_PER_SD / grid.voxel_mm) for n in grid.shape]

    def draw(self, rng: np.random.Generator, n_maps: int) -> NDArray[np.float32]:
        """Draw (N, V) independent maps."""
        maps_NV = np.empty((n_maps, int(self._mask_XYZ.sum())), np.float32)
        for start in range(0, n_maps, MAPS_AT_ONCE):
            stop = min(start + MAPS_AT_ONCE, n_maps)
            maps_NV[start:stop] = self._smooth(rng.standard_normal((stop - start, *self._shape), np.float32))
        return maps_NV

    def _smooth(self, white_NXYZ: NDArray[np.float32]) -> NDArray[np.float32]:
        kernel_x, kernel_y, kernel_z = self._kernels
        n, x, y, z = white_NXYZ.shape
        smooth = kernel_y @ (white_NXYZ @ kernel_z.T)
        smooth = (kernel_x @ smooth.reshape(n, x, y * z)).reshape(n, x, y, z)
        smooth_NV: NDArray[np.float32] = smooth[:, self._mask_XYZ]
        return smooth_NV


def _unit_kernel(n: int, sd_voxels: float) -> NDArray[np.float32]:
    distance = np.subtract.outer(np.arange(n), np.arange(n))
    kernel = np.exp(-0.5 * (distance / sd_voxels) ** 2)
    unit_kernel: NDArray[np.float32] = (kernel / np.linalg.norm(kernel, axis=1, keepdims=True)).astype(np.float32)
    return unit_kernel
