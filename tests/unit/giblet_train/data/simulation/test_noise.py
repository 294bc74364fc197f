"""Simulated scanner noise has the composition it claims."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.signal import clean

from giblet_train.data.simulation import noise
from giblet_train.data.simulation.noise import draw_noise
from giblet_train.data.simulation.regions import COARSE, ellipsoid_brain
from giblet_train.data.simulation.smooth_maps import SmoothMaps

MAPS = SmoothMaps(COARSE, ellipsoid_brain(COARSE)[0])


def test_the_shares_are_of_one_variance():
    shares = (noise.AUTOREGRESSIVE, noise.WHITE, noise.DRIFT, noise.PHYSIOLOGY, noise.MOTION)
    assert sum(s * s for s in shares) == pytest.approx(1.0, abs=0.01)
    parts = draw_noise(np.random.default_rng(0), MAPS, 300, 1.5)
    assert parts.values_TV.dtype == np.float32
    assert parts.values_TV.shape == (300, 1134)
    assert parts.values_TV.var() == pytest.approx(1.0, abs=0.05)


def test_without_slow_drift_its_lag_one_correlation_is_that_of_real_bold():
    """Haxby's 2001 scans have 0.25-0.27 after detrending, other data up to 0.4."""
    values = draw_noise(np.random.default_rng(1), MAPS, 400, 1.5).values_TV.astype(float)
    z = clean(values, detrend=True, standardize="zscore_sample", t_r=1.5, high_pass=1 / 128)
    lag_one = (z[1:] * z[:-1]).mean()
    assert 0.22 < lag_one < 0.42


def test_motion_is_its_own_and_moves_the_voxels():
    parts = draw_noise(np.random.default_rng(2), MAPS, 200, 1.5)
    assert parts.motion_TP.shape == (200, 6)
    np.testing.assert_allclose(parts.motion_TP.mean(axis=0), 0.0, atol=1e-12)
    assert 0.02 < np.abs(parts.motion_TP).max() < 5.0
    design = np.column_stack([np.ones(200), parts.motion_TP])
    fitted = design @ np.linalg.lstsq(design, parts.values_TV.astype(float), rcond=None)[0]
    assert fitted.var() > 0.7 * noise.MOTION**2


def test_subjects_share_no_noise():
    first, second = (draw_noise(np.random.default_rng(s), MAPS, 400, 1.5).values_TV for s in (3, 4))
    z_first, z_second = ((x - x.mean(axis=0)) / x.std(axis=0) for x in (first, second))
    assert abs(float((z_first * z_second).mean())) < 0.01


@pytest.mark.parametrize("n_trs", [5, 30])
def test_short_scans_are_finite(n_trs):
    parts = draw_noise(np.random.default_rng(5), MAPS, n_trs, 1.5)
    assert np.isfinite(parts.values_TV).all()
    assert np.isfinite(parts.motion_TP).all()


def test_null_voxels_are_not_predicted_by_a_film_that_grows_louder():
    """A ridge on a trend finds next to nothing in pure noise, held out by blocks."""
    rng, n_trs = np.random.default_rng(6), 200
    louder = np.linspace(-1.0, 1.0, n_trs) + 0.3 * rng.normal(size=n_trs)
    values = draw_noise(rng, MAPS, n_trs, 1.5).values_TV.astype(float)
    correlations = []
    for first in range(0, n_trs, 40):
        test = np.arange(first, first + 40)
        train = np.setdiff1d(np.arange(n_trs), np.arange(first - 10, first + 50))
        slope = (louder[train] - louder[train].mean()) @ (values[train] - values[train].mean(axis=0))
        correlations.append(np.sign(slope) * [np.corrcoef(louder[test], v)[0, 1] for v in values[test].T])
    assert abs(np.mean(correlations)) < 0.06
