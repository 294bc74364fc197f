"""Figures of merit against numpy, and at chance where there is nothing."""

import warnings

import numpy as np
import pytest

from giblet_train.evaluation.intervals import interval_of_sum
from giblet_train.evaluation.metrics import (
    contributions_of,
    identification,
    pearson,
    products_of,
    shifted_r,
)

RNG = np.random.default_rng(0)


def smooth(n_trs, n_voxels, rng=RNG):
    return np.apply_along_axis(lambda x: np.convolve(x, np.ones(5), "valid"), 0, rng.normal(size=(n_trs + 4, n_voxels)))


def test_pearson_is_numpys():
    a, b = RNG.normal(size=(2, 50, 7))
    expected = [np.corrcoef(a[:, v], b[:, v])[0, 1] for v in range(7)]
    np.testing.assert_allclose(pearson(a.astype(np.float32), b.astype(np.float32)), expected, atol=1e-6)
    for contributions in (products_of, contributions_of):
        assert contributions(a, b).sum() == pytest.approx(np.mean(expected))


def test_a_constant_correlates_with_nothing():
    assert pearson(np.ones((20, 2)), RNG.normal(size=(20, 2))).tolist() == [0.0, 0.0]


def test_without_trs_there_is_no_correlation_and_no_warning():
    none_TV = np.zeros((0, 4), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(pearson(none_TV, none_TV)).tolist() == [True] * 4
        assert contributions_of(none_TV, none_TV).shape == products_of(none_TV, none_TV).shape == (0,)
        assert np.isnan(interval_of_sum(contributions_of(none_TV, none_TV))).all()


def test_shifted_series_are_rolled():
    a, b = smooth(60, 4), smooth(60, 4)
    expected = [pearson(np.roll(a, shift, axis=0), b) for shift in range(20, 41)]
    np.testing.assert_allclose(shifted_r(a, b), expected, atol=1e-10)


def autoregressive(n_trs, n_series, coefficient, rng):
    x_TN = rng.normal(size=(n_trs + 50, n_series))
    for t in range(1, len(x_TN)):
        x_TN[t] = coefficient * x_TN[t - 1] + np.sqrt(1.0 - coefficient**2) * x_TN[t]
    return x_TN[50:]


@pytest.mark.parametrize(
    ("n_trs", "of_signal", "of_noise", "least"),
    [(65, 0.0, 0.0, 0.92), (65, 0.85, 0.45, 0.88), (200, 0.5, 0.5, 0.92), (400, 0.85, 0.45, 0.91)],
)
@pytest.mark.parametrize("truth", [0.0, 0.6])
def test_an_interval_covers_the_correlation_of_autocorrelated_series(n_trs, of_signal, of_noise, least, truth):
    rng, n_series = np.random.default_rng(0), 600
    signal_TN = autoregressive(n_trs, n_series, of_signal, rng)
    measured_TN = truth * signal_TN + np.sqrt(1.0 - truth**2) * autoregressive(n_trs, n_series, of_noise, rng)
    pairs = zip(signal_TN.T[..., None], measured_TN.T[..., None], strict=True)
    ends_N2 = np.array([interval_of_sum(contributions_of(*pair)) for pair in pairs])
    assert least <= ((ends_N2[:, 0] <= truth) & (truth <= ends_N2[:, 1])).mean() <= 0.97


def test_a_correlation_that_few_trs_carry_is_the_middle_of_its_interval():
    contributions_T = np.r_[np.full(5, 1.0), np.full(190, 0.1), np.full(5, 1.0)] / 200
    assert sum(interval_of_sum(contributions_T)) / 2 == pytest.approx(contributions_T.sum())


def test_one_tr_has_no_interval():
    assert np.isnan(interval_of_sum(np.array([0.3]))).all()
    low, high = interval_of_sum(np.array([0.3, 0.1]))
    assert low < 0.4 < high


def test_identification_of_the_truth_and_of_noise():
    truth = smooth(200, 10)
    assert identification(truth, truth)["two_way"] == 1.0
    assert identification(truth + RNG.normal(size=truth.shape), truth)["top_1"] == 1.0
    noise = [identification(smooth(200, 10), truth) for _ in range(10)]
    assert np.mean([n["two_way"] for n in noise]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([n["top_1"] for n in noise]) < 4 * noise[0]["top_1_chance"]


def test_too_few_segments_say_so():
    assert identification(smooth(10, 3), smooth(10, 3)) == {"n_segments": 2.0}
