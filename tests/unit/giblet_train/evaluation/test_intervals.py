"""The interval of one correlation."""

import numpy as np
import pytest

from giblet_train.evaluation.intervals import _expected_draws, block_interval, centred_interval


@pytest.mark.parametrize("n_rows", [3, 45, 64])
def test_the_bias_of_the_bootstrap_is_exact(n_rows):
    products_T = np.random.default_rng(1).normal(size=n_rows)
    draws = np.array([block_interval(np.eye(n_rows)[t], 1, np.random.default_rng(0))[0] for t in range(n_rows)])
    assert draws.sum() == pytest.approx(n_rows) and _expected_draws(n_rows).sum() == pytest.approx(n_rows)
    one_draw = [block_interval(products_T, 1, np.random.default_rng(seed))[0] for seed in range(4000)]
    expected = float(_expected_draws(n_rows) @ products_T)
    assert np.mean(one_draw) == pytest.approx(expected, abs=5 * np.std(one_draw) / np.sqrt(len(one_draw)) + 1e-9)


def test_a_correlation_that_the_ends_carry_is_inside_its_interval():
    products_T = np.r_[np.full(5, 1.0), np.full(190, 0.1), np.full(5, 1.0)] / 200
    low, high = block_interval(products_T)
    assert products_T.sum() > high
    low, high = centred_interval(products_T)
    assert low <= products_T.sum() <= high
