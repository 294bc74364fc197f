"""Drift is taken out of each block by that block alone, and out of predictions by the same filter."""

import numpy as np
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from giblet_train.data.preprocessing.detrend import Detrend, without_drift

RANDOM = np.random.default_rng(0)
BLOCKS = ((0, 60), (74, 100), (114, 180))


@pytest.mark.parametrize("kind", ["mean", 60.0])
def test_a_block_is_filtered_by_nilearns_drift_model(kind):
    series = RANDOM.normal(size=(180, 5)).cumsum(axis=0)
    residuals = without_drift(series, BLOCKS, Detrend(kind, 1.5))[:]
    for first, stop in BLOCKS:
        if kind == "mean":
            expected = series[first:stop] - series[first:stop].mean(axis=0)
        else:
            times = np.arange(stop - first) * 1.5
            design = make_first_level_design_matrix(times, drift_model="cosine", high_pass=1 / kind)
            fitted = design.to_numpy() @ np.linalg.lstsq(design.to_numpy(), series[first:stop], rcond=None)[0]
            expected = series[first:stop] - fitted
        np.testing.assert_allclose(residuals[first:stop], expected, atol=1e-4 * np.abs(series).max())


def test_gaps_are_zero_and_no_block_hears_of_another():
    series = RANDOM.normal(1000, 5, (180, 4)).astype(np.float32)
    poison_series = series.copy()
    poison_series[60:] = np.nan
    drift = Detrend(60.0, 1.5)
    clean_TV, dirty_TV = without_drift(series, BLOCKS, drift)[:], without_drift(poison_series, BLOCKS, drift)[:]
    np.testing.assert_array_equal(clean_TV[:60], dirty_TV[:60])
    assert not clean_TV[60:74].any()


def test_rows_asked_for_alone_are_those_of_the_whole():
    series = RANDOM.normal(1000, 5, (180, 4)).astype(np.float32)
    residuals = without_drift(series, BLOCKS, Detrend("mean", 1.5))
    np.testing.assert_array_equal(residuals[np.array([3, 70, 120])], residuals[:][[3, 70, 120]])


def test_predictions_lose_what_responses_lose():
    series = RANDOM.normal(size=(180, 4))
    drift = Detrend(60.0, 1.5)
    rows = np.r_[74:100, 114:180]
    expected = without_drift(series, BLOCKS, drift)[rows]
    np.testing.assert_allclose(drift.apply(series[rows], BLOCKS[1:]), expected, atol=1e-5)
    np.testing.assert_array_equal(Detrend().apply(series[rows], BLOCKS[1:]), series[rows])


def test_a_block_of_two_trs_loses_its_mean_alone():
    assert Detrend(1.0, 1.5).regressors(2).shape == (2, 1)
