"""Figures of merit against numpy, and at chance where there is nothing."""

import numpy as np
import pytest

from giblet_train.evaluation.intervals import block_interval
from giblet_train.evaluation.metrics import identification, pearson, products_of, shift_null, shifted_r

RNG = np.random.default_rng(0)


def smooth(n_trs, n_voxels, rng=RNG):
    return np.apply_along_axis(lambda x: np.convolve(x, np.ones(5), "valid"), 0, rng.normal(size=(n_trs + 4, n_voxels)))


def test_pearson_is_numpys():
    a, b = RNG.normal(size=(2, 50, 7))
    expected = [np.corrcoef(a[:, v], b[:, v])[0, 1] for v in range(7)]
    np.testing.assert_allclose(pearson(a.astype(np.float32), b.astype(np.float32)), expected, atol=1e-6)
    assert products_of(a, b).sum() == pytest.approx(np.mean(expected))


def test_a_constant_correlates_with_nothing():
    assert pearson(np.ones((20, 2)), RNG.normal(size=(20, 2))).tolist() == [0.0, 0.0]


def test_the_shift_null_is_rolling():
    a, b = smooth(60, 4), smooth(60, 4)
    expected = [pearson(np.roll(a, shift, axis=0), b) for shift in range(20, 41)]
    np.testing.assert_allclose(shifted_r(a, b), expected, atol=1e-10)
    np.testing.assert_allclose(shift_null(a, b), np.mean(expected, axis=1), atol=1e-10)


def test_the_interval_covers_the_truth_of_autocorrelated_series():
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        low, high = block_interval(products_of(smooth(200, 1, rng), smooth(200, 1, rng)), 300, rng)
        covered += low <= 0.0 <= high
    assert covered >= 85


def test_identification_of_the_truth_and_of_noise():
    truth = smooth(200, 10)
    assert identification(truth, truth)["two_way"] == 1.0
    assert identification(truth + RNG.normal(size=truth.shape), truth)["top_1"] == 1.0
    noise = [identification(smooth(200, 10), truth) for _ in range(10)]
    assert np.mean([n["two_way"] for n in noise]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([n["top_1"] for n in noise]) < 4 * noise[0]["top_1_chance"]


def test_too_few_segments_say_so():
    assert identification(smooth(10, 3), smooth(10, 3)) == {"n_segments": 2.0}


def test_an_interval_of_few_trs_is_never_empty() -> None:
    products = np.random.default_rng(0).normal(0.01, 0.02, size=13)
    low, high = block_interval(products, 300, np.random.default_rng(1))
    assert low < products.sum() < high
