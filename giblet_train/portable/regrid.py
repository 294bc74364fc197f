"""Bring a series from one grid to another in the same space, by trilinear interpolation a few volumes at a time.

A target voxel that is larger than the source's is the mean over evenly spaced points in it, so that nothing is aliased.
V target voxels, K source voxels that contribute to one, N source voxels that contribute to any, T volumes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.readers.volumes import Volumes, stream

MOST_POINTS = 4
"""Points along an axis of a voxel; a source that is finer still is aliased a little."""
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class Regridding:
    """Weights of source voxels in target voxels."""

    mask_XYZ: NDArray[np.bool_]
    """The N source voxels."""
    index_VK: NDArray[np.intp]
    """Which of the N."""
    weight_VK: Singles
    """Rows sum to 1, or are 0 for a voxel outside the source."""

    @classmethod
    def of(cls, source: VolumeGrid, target: VolumeGrid, mask_XYZ: NDArray[np.bool_]) -> Regridding:
        """Compute the weights. mask_XYZ: the V voxels of the target."""
        to_source = np.linalg.inv(source.affine) @ target.affine
        places_3V = np.argwhere(mask_XYZ).T.astype(float)
        n_points = np.clip(np.round(np.linalg.norm(to_source[:3, :3], axis=0)), 1, MOST_POINTS).astype(int)
        offsets = [(np.arange(n) + 0.5) / n - 0.5 for n in n_points]
        index, weight = [], []
        for offset in itertools.product(*offsets):
            at_3V = to_source[:3, :3] @ (places_3V + np.array(offset)[:, None]) + to_source[:3, 3:]
            below_3V = np.floor(at_3V + 1e-6).astype(np.intp)
            part_3V = np.clip(at_3V - below_3V, 0.0, 1.0)
            for corner in itertools.product((0, 1), repeat=3):
                corner_31 = np.array(corner)[:, None]
                voxel_3V = below_3V + corner_31
                share_V = np.where(corner_31 == 1, part_3V, 1.0 - part_3V).prod(axis=0)
                inside_V = ((voxel_3V >= 0) & (voxel_3V < np.array(source.shape)[:, None])).all(axis=0)
                index.append(np.ravel_multi_index(tuple(np.where(inside_V, voxel_3V, 0)), source.shape))
                weight.append(np.where(inside_V, share_V, 0.0))
        index_VK, weight_VK = np.stack(index, axis=1), np.stack(weight, axis=1)
        total_V1 = weight_VK.sum(axis=1, keepdims=True)
        # A voxel whose larger part is outside would be extrapolated.
        covered_V1 = total_V1 >= 0.5 * np.prod(n_points)
        weight_VK = np.divide(weight_VK, total_V1, out=np.zeros_like(weight_VK), where=covered_V1)
        used_N, place = np.unique(index_VK[weight_VK > 0], return_inverse=True)
        packed_VK = np.zeros_like(index_VK)
        packed_VK[weight_VK > 0] = place
        mask_source = np.zeros(int(np.prod(source.shape)), bool)
        mask_source[used_N] = True
        return cls(mask_source.reshape(source.shape), packed_VK, weight_VK.astype(np.float32))

    @property
    def covered_V(self) -> NDArray[np.bool_]:
        """Return the target voxels that the source covers."""
        return np.asarray(self.weight_VK.any(axis=1))

    def series(self, volumes: Volumes) -> Iterator[Singles]:
        """Yield the values (T, V) of consecutive volumes; 0 outside the source."""
        for _, bold_TN in stream(volumes, self.mask_XYZ):
            yield np.stack([np.einsum("vk,vk->v", bold_N[self.index_VK], self.weight_VK) for bold_N in bold_TN])
