"""Where the simulated brain is, and which part of it answers to what: grids, masks and regions in MNI space.

Shapes: X Y Z voxels of the grid; coordinates are millimetres, right, anterior and superior positive.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.errors import ConfigError

FIELD_OF_VIEW_MM = ((-90.0, 90.0), (-126.0, 90.0), (-72.0, 108.0))
ELLIPSOID_CENTRE_MM = (0.0, -17.0, 8.0)
ELLIPSOID_AXES_MM = (72.0, 90.0, 72.0)
RIM_SCALE = 1.06

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """A box of cubic voxels whose corner centres span the field of view."""

    shape: tuple[int, int, int]
    """Voxels along x, y, z."""
    voxel_mm: float
    """Edge length of a voxel."""

    @property
    def affine(self) -> Floats:
        """Return the (4, 4) affine from voxel indices to millimetres."""
        affine = np.diag([self.voxel_mm, self.voxel_mm, self.voxel_mm, 1.0])
        affine[:3, 3] = [low for low, _ in FIELD_OF_VIEW_MM]
        return affine

    def coordinates_mm(self) -> Floats:
        """Return (X, Y, Z, 3) millimetres of every voxel's centre."""
        indices = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), axis=-1)
        return indices * self.voxel_mm + self.affine[:3, 3]


COARSE = Grid((16, 19, 16), 12.0)
FINE = Grid((61, 73, 61), 3.0)


@dataclass(frozen=True)
class Region:
    """A set of balls with the share of explainable variance of each kind of stimulus."""

    name: str
    centres_mm: tuple[tuple[float, float, float], ...]
    """Centre of each ball, mirrored to both hemispheres where |x| > 20."""
    radius_mm: float
    shares: Mapping[str, float]
    """Group of true features -> share; they sum to 1."""


def _region(name: str, centres_mm: tuple[tuple[float, float, float], ...], radius_mm: float, **shares: float) -> Region:
    other_side_mm = tuple((-x, y, z) for x, y, z in centres_mm if abs(x) > 20.0)
    return Region(name, centres_mm + other_side_mm, radius_mm, MappingProxyType(shares))


REGIONS = (
    _region("early_visual", ((0.0, -90.0, 2.0),), 31.0, low_vision=1.0),
    _region("higher_visual", ((46.0, -72.0, -2.0), (38.0, -54.0, -18.0)), 20.0, high_vision=0.85, text=0.15),
    _region("auditory", ((56.0, -16.0, 6.0),), 24.0, audio=1.0),
    _region("temporo_parietal", ((54.0, -48.0, 18.0),), 23.0, audio=0.4, high_vision=0.3, text=0.3),
    _region("semantic", ((46.0, 10.0, -28.0), (48.0, 26.0, 12.0)), 21.0, text=1.0),
    _region("default_mode", ((0.0, -56.0, 34.0), (0.0, 50.0, 10.0)), 25.0, narrative=1.0),
)


def label_regions(grid: Grid, brain_XYZ: Mask) -> NDArray[np.int8]:
    """Return (X, Y, Z): 1 + index into `REGIONS` of the ball a voxel is deepest in, relative to its radius; else 0."""
    coordinates = grid.coordinates_mm()
    depths = []
    for region in REGIONS:
        distances = [np.linalg.norm(coordinates - np.array(centre), axis=-1) for centre in region.centres_mm]
        depths.append(np.min(distances, axis=0) / region.radius_mm)
    depth_RXYZ = np.stack(depths)
    inside = brain_XYZ & (depth_RXYZ.min(axis=0) <= 1.0)
    return np.where(inside, depth_RXYZ.argmin(axis=0) + 1, 0).astype(np.int8)


def ellipsoid_brain(grid: Grid) -> tuple[Mask, Mask]:
    """Return an ellipsoid of an adult brain's size (Dice 0.90 with the ICBM152 mask) and the rim around it."""
    offset = grid.coordinates_mm() - np.array(ELLIPSOID_CENTRE_MM)
    radius = np.sqrt(((offset / np.array(ELLIPSOID_AXES_MM)) ** 2).sum(axis=-1))
    return radius <= 1.0, (radius > 1.0) & (radius <= RIM_SCALE)


def template_brain(grid: Grid) -> tuple[Mask, Mask]:
    """Return nilearn's ICBM152 brain mask on `grid`, and a rim of one voxel around it.

    Raises ConfigError when nilearn is not installed.
    """
    if importlib.util.find_spec("nilearn") is None:
        raise ConfigError(
            "The brain template of this study's size comes with nilearn, which is not installed.",
            "Install it with `pip install 'giblet[study]'`, or take the size `small`.",
        )
    from nilearn.datasets import load_mni152_brain_mask
    from nilearn.image import resample_img

    mask = resample_img(load_mni152_brain_mask(resolution=1), grid.affine, grid.shape, interpolation="nearest")
    brain = np.asarray(mask.dataobj) > 0
    return brain, _grown(brain) & ~brain


def _grown(mask_XYZ: Mask) -> Mask:
    mask = mask_XYZ.copy()
    for axis in range(3):
        for step in (-1, 1):
            mask |= np.roll(mask_XYZ, step, axis=axis)
    return mask
