"""Smooth maps keep their variance and have the smoothness they are given."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_train.data.simulation.regions import COARSE, FINE, Grid
from giblet_train.data.simulation.smooth_maps import FWHM_PER_SD, SmoothMaps


@pytest.mark.parametrize("grid", [COARSE, Grid((24, 24, 24), 3.0)])
def test_every_voxel_has_unit_variance(grid):
    maps_NV = SmoothMaps(grid, np.ones(grid.shape, bool)).draw(np.random.default_rng(0), 400)
    assert maps_NV.var() == pytest.approx(1.0, abs=0.02)
    assert np.abs(maps_NV.var(axis=0) - 1.0).max() < 0.45


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_neighbours_correlate_as_the_gaussian_kernel_says(distance):
    grid = Grid((24, 20, 20), 3.0)
    maps = SmoothMaps(grid, np.ones(grid.shape, bool), fwhm_mm=9.0).draw(np.random.default_rng(1), 60)
    cube = maps.reshape(60, *grid.shape)[:, 4:-4]
    observed = np.corrcoef(cube[:, :-distance].ravel(), cube[:, distance:].ravel())[0, 1]
    sd_mm = 9.0 / FWHM_PER_SD
    assert observed == pytest.approx(np.exp(-((3.0 * distance) ** 2) / (4.0 * sd_mm**2)), abs=0.02)


def test_maps_are_read_inside_the_mask_in_c_order():
    mask = np.zeros(FINE.shape, bool)
    mask[10:14, 20:23, 30] = True
    whole = SmoothMaps(FINE, np.ones(FINE.shape, bool)).draw(np.random.default_rng(2), 1)
    inside = SmoothMaps(FINE, mask).draw(np.random.default_rng(2), 1)
    np.testing.assert_array_equal(inside, whole[:, mask.ravel()])
