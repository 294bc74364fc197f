"""Another sampling interval: the integral stays, and parts give what the whole gives."""

import numpy as np
import pytest

from giblet_train.portable.resample import n_rows, resample, resample_parts


def means(from_s, n_trs):
    """Return the mean of a slow sine over each interval, computed from its integral."""
    edges_s = np.arange(n_trs + 1) * from_s
    return (-np.diff(np.cos(2 * np.pi * edges_s / 30.0)) / from_s)[:, None].astype(np.float32)


@pytest.mark.parametrize("to_s", [0.5, 0.72, 1.0, 2.0, 2.47, 3.0])
def test_a_slow_sine_is_what_it_is_at_any_interval(to_s):
    n_trs = 200
    expected = means(to_s, n_rows(n_trs, 1.5, to_s))
    got = resample(means(1.5, n_trs), 1.5, to_s)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got[4:-4], expected[4:-4], atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("to_s", [0.72, 1.5, 2.0])
def test_parts_give_the_same_as_the_whole(to_s):
    series = np.random.default_rng(0).normal(size=(97, 3)).astype(np.float32)
    parts = [series[:10], series[10:11], series[11:60], series[60:]]
    together = np.concatenate(list(resample_parts(parts, 97, 1.5, to_s)))
    np.testing.assert_allclose(together, resample(series, 1.5, to_s), atol=1e-5)


def test_twice_the_interval_averages_two_rows():
    series = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    np.testing.assert_allclose(resample(series, 1.0, 2.0), series.reshape(10, 2, 2).mean(axis=1), atol=1e-6)
    assert resample(series, 1.5, 1.5) is not None and len(resample(series, 1.5, 40.0)) == 0
