"""The simulated anatomy: a brain of the right size, regions where their names say, most of it null."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_train.data.simulation import regions
from giblet_train.data.simulation.ground_truth import GROUPS
from giblet_train.data.simulation.regions import COARSE, FINE, REGIONS
from giblet_train.schema.errors import ConfigError


@pytest.fixture(scope="module")
def template():
    return regions.template_brain(FINE)


def test_both_grids_span_the_same_box():
    for grid in (COARSE, FINE):
        coordinates = grid.coordinates_mm()
        assert tuple(coordinates[0, 0, 0]) == (-90.0, -126.0, -72.0)
        assert tuple(coordinates[-1, -1, -1]) == (90.0, 90.0, 108.0)
        last = np.array([*grid.shape, 2]) - 1
        np.testing.assert_array_equal((grid.affine @ last)[:3], [90.0, 90.0, 108.0])


def test_the_ellipsoid_overlaps_the_icbm152_mask(template):
    ellipsoid, rim = regions.ellipsoid_brain(FINE)
    overlap = 2 * (ellipsoid & template[0]).sum() / (ellipsoid.sum() + template[0].sum())
    assert overlap > 0.89
    assert not (ellipsoid & rim).any()


def test_the_template_has_a_rim_of_one_voxel(template):
    brain, rim = template
    assert not (brain & rim).any()
    assert 0.08 < rim.sum() / brain.sum() < 0.2


@pytest.mark.parametrize("grid", [COARSE, FINE])
def test_regions_lie_where_their_names_say_and_leave_most_of_the_brain_null(grid):
    brain, _ = regions.ellipsoid_brain(grid)
    labels = regions.label_regions(grid, brain)
    assert not labels[~brain].any()
    assert (labels[brain] == 0).mean() > 0.6
    coordinates = grid.coordinates_mm()
    for number, region in enumerate(REGIONS, 1):
        inside = coordinates[labels == number]
        assert len(inside) >= 30, region.name
        nearest = np.min([np.linalg.norm(inside - centre, axis=1) for centre in region.centres_mm], axis=0)
        assert nearest.max() <= region.radius_mm
        assert abs(inside[:, 0].mean()) < 3.0, "both hemispheres"
    assert coordinates[labels == 1][:, 1].max() < -55.0, "early visual cortex is at the back"


def test_shares_name_groups_of_features_and_sum_to_one():
    for region in REGIONS:
        assert set(region.shares) <= set(GROUPS)
        assert sum(region.shares.values()) == pytest.approx(1.0)


def test_without_nilearn_the_template_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(regions.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="nilearn") as error:
        regions.template_brain(FINE)
    assert "giblet[study]" in error.value.remedy
