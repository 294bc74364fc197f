"""Reduce maps of the brain to a few kilobytes for the terminal.

V voxels, G voxels of the coarse grid, X Y Z the study's grid.
"""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.held_out_maps import HeldOutMaps
from giblet_train.components.voxel_posterior import VoxelPosterior
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import BrainMap, BrainRecord

LONGEST = 40
"""Voxels of the coarse grid along its longest side."""
OUTSIDE, NO_VALUE, FIRST = 0, 1, 2
LEVELS = 32
"""Number of levels that values are rounded to, because noise does not compress."""
Floats = NDArray[np.floating[Any]]


class CoarseGrid:
    """A grid of cubes in millimetres around the voxels of a split; each cube takes the nearest voxel.

    Raises DataError for a study whose brains are not on a grid.
    """

    def __init__(self, data: PreparedSplit) -> None:
        if not isinstance(data.study.geometry, VolumeGrid):
            raise DataError(f"{data.study.geometry.description} have no grid to draw; the report has tables.")
        affine = data.study.geometry.affine
        place_V3 = np.argwhere(data.mask)
        mm_V3 = place_V3 @ affine[:3, :3].T + affine[:3, 3]
        voxel_mm = float(np.abs(np.linalg.det(affine[:3, :3])) ** (1 / 3))
        low_mm, high_mm = mm_V3.min(axis=0) - voxel_mm / 2, mm_V3.max(axis=0) + voxel_mm / 2
        self.step_mm = float((high_mm - low_mm).max()) / LONGEST
        self.shape = tuple(int(n) for n in np.ceil((high_mm - low_mm) / self.step_mm))
        self.origin_mm = tuple(float(x) for x in low_mm + self.step_mm / 2)
        centres = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), axis=-1).reshape(-1, 3)
        inverse = np.linalg.inv(affine)
        mm_G3 = centres * self.step_mm + np.array(self.origin_mm)
        voxel_G3 = np.rint(mm_G3 @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        inside_G = ((voxel_G3 >= 0) & (voxel_G3 < np.array(data.mask.shape))).all(axis=1)
        column_XYZ = np.full(data.mask.shape, -1)
        column_XYZ[data.mask] = data.in_grid_order(np.arange(data.n_voxels))
        self._column_G = np.full(len(voxel_G3), -1)
        self._column_G[inside_G] = column_XYZ[tuple(voxel_G3[inside_G].T)]

    def values(self, title: str, values_V: Floats, high: float = 0.0) -> BrainMap:
        """Return a map of values from 0 on; NaN and values up to 0 are without a value.

        high: end of the scale; 0 for the largest value, which is 0 if no voxel has one.
        """
        positive_V = np.nan_to_num(values_V) > 0
        high = high or float(values_V[positive_V].max(initial=0.0))
        level_V = np.rint(np.clip(np.nan_to_num(values_V) / (high or 1.0), 0, 1) * (LEVELS - 1)) / (LEVELS - 1)
        code_V = np.where(positive_V, FIRST + np.rint(level_V * (255 - FIRST)), NO_VALUE)
        return BrainMap(title=title, low=0.0, high=high, voxels=self._packed(code_V))

    def categories(self, title: str, index_V: NDArray[np.integer[Any]], names: Sequence[str]) -> BrainMap:
        """Return a map of categories; -1 is without a value, and names beyond the bytes are left out."""
        names = tuple(names)[: 255 - FIRST + 1]
        code_V = np.where((index_V >= 0) & (index_V < len(names)), index_V + FIRST, NO_VALUE)
        return BrainMap(title=title, low=0.0, high=1.0, names=names, voxels=self._packed(code_V))

    def _packed(self, code_V: NDArray[Any]) -> str:
        code_G = np.where(self._column_G >= 0, code_V[self._column_G], OUTSIDE).astype(np.uint8)
        return base64.b64encode(zlib.compress(code_G.tobytes(), 9)).decode()

    def record(self, step: int, maps: Mapping[str, BrainMap], *, held_out: bool) -> BrainRecord:
        """Return the record of some maps."""
        x, y, z = self.shape
        right, front, up = self.origin_mm
        return BrainRecord(
            step=step,
            at=time.time(),
            held_out=held_out,
            shape=(x, y, z),
            origin_mm=(right, front, up),
            step_mm=self.step_mm,
            maps=dict(maps),
        )


def fixed_maps(grid: CoarseGrid, data: PreparedSplit, posterior: VoxelPosterior | None) -> dict[str, BrainMap]:
    """Return the maps that do not change during training: ceiling, space, memory and region, where there are any."""
    maps = {}
    if np.isfinite(data.isc_V).any():
        ceiling_V = np.sqrt(np.where(data.responsive_V, np.maximum(np.nan_to_num(data.isc_V), 0.0), 0.0))
        maps["ceiling"] = grid.values("noise ceiling of responsive voxels", ceiling_V)
    if posterior is not None:
        maps["space"] = grid.categories("what drives each voxel", posterior.preferred_V, posterior.preferred_names)
        memory_s_V = np.where(posterior.driven_V, np.maximum(posterior.memory_s_V, 0.01), 0.0)
        maps["memory"] = grid.values("memory in s", memory_s_V)
    if data.parcels:
        index_V = np.full(data.n_voxels, -1)
        for n, where in enumerate(data.parcels.values()):
            index_V[where] = n
        maps["region"] = grid.categories("regions of the atlas", index_V, tuple(data.parcels))
    return maps


def held_out_brain(grid: CoarseGrid, maps: HeldOutMaps) -> dict[str, BrainMap]:
    """Return the maps of the evaluation: significant r of the group, and r of each subject."""
    significant_V = maps.significant()
    r = {"r": grid.values("held-out r, significant voxels", np.where(significant_V, maps.group_r_V, 0.0))}
    for subject, r_V in maps.r.items():
        r[f"r:{subject}"] = grid.values(
            f"held-out r of {subject}, significant voxels", np.where(maps.significant(subject), r_V, 0.0)
        )
    return r
