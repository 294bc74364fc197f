"""The ridge baseline against himalaya."""

import numpy as np
import pytest
from himalaya.kernel_ridge import solve_kernel_ridge_eigenvalues

from giblet_train.evaluation import baselines
from giblet_train.evaluation.baselines import delayed_by, ridge_of
from giblet_train.evaluation.metrics import pearson
from tests.engine_study import split_data


@pytest.mark.parametrize("alpha", [1.0, 1e2, 1e4])
def test_predictions_equal_himalayas(alpha):
    data = split_data()
    ridge = ridge_of(data.inputs, data.split.train, data.split.validation, data.study.scan_lengths_trs)
    train, test = data.split.train, data.split.test
    target = data.bold["sub-01"][train].astype(np.float64)
    dual = solve_kernel_ridge_eigenvalues(ridge.kernel_TT[np.ix_(train, train)], target, alpha=alpha)
    expected = ridge.kernel_TT[np.ix_(test, train)] @ dual
    prediction = ridge.solver.predict(ridge.kernel_TT[np.ix_(test, train)], data.bold["sub-01"][train], alpha)
    np.testing.assert_allclose(prediction, expected, atol=1e-3 * np.abs(expected).max())


def test_many_trs_are_predicted_from_components_as_few_are_from_trs(monkeypatch):
    data = split_data()
    arguments = data.inputs, data.split.train, data.split.validation, data.study.scan_lengths_trs
    exact = ridge_of(*arguments).predict(data.bold["sub-01"], data.split.test)
    monkeypatch.setattr(baselines, "MOST_DUAL_TRS", 100)
    primal = ridge_of(*arguments)
    assert isinstance(primal, baselines.PrimalRidgeFit)
    np.testing.assert_allclose(primal.predict(data.bold["sub-01"], data.split.test), exact, atol=5e-3)


def test_it_predicts_what_follows_the_film_and_nothing_else():
    data = split_data()
    ridge = ridge_of(data.inputs, data.split.train, data.split.validation, data.study.scan_lengths_trs)
    test = data.split.test
    r_V = np.mean([pearson(ridge.predict(data.bold[s], test), data.bold[s][test]) for s in data.subjects], axis=0)
    assert r_V[data.responsive_V].mean() > 0.3
    assert abs(r_V[data.null_V].mean()) < 0.06


def test_the_test_block_chooses_nothing():
    data = split_data()
    ridge = ridge_of(data.inputs, data.split.train, data.split.validation, data.study.scan_lengths_trs)
    poison_TV = data.bold["sub-01"].copy()
    poison_TV[data.split.test] = np.nan
    clean = ridge.predict(data.bold["sub-01"], data.split.test)
    np.testing.assert_array_equal(clean, ridge.predict(poison_TV, data.split.test))


def test_the_validation_block_chooses_the_penalty_and_is_then_fitted():
    data = split_data()
    train, validation, test = data.split.train, data.split.validation, data.split.test
    ridge = ridge_of(data.inputs, train, validation, data.study.scan_lengths_trs)
    bold_TV, both = data.bold["sub-01"], np.union1d(train, validation)
    kernel_TT, together_V = ridge.kernel_TT, data.responsive_V

    def fitted(rows, alpha, fit):
        dual = solve_kernel_ridge_eigenvalues(kernel_TT[np.ix_(fit, fit)], bold_TV[fit].astype(float), alpha=alpha)
        return kernel_TT[np.ix_(rows, fit)] @ dual

    best = max(
        baselines.ALPHAS,
        key=lambda alpha: pearson(fitted(validation, alpha, train), bold_TV[validation])[together_V].mean(),
    )
    expected = fitted(test, best, both)
    assert np.abs(expected - fitted(test, best, train)).max() > 0.05
    np.testing.assert_allclose(ridge.predict(bold_TV, test, together_V), expected, atol=1e-3)


def test_a_delay_stays_inside_its_scan():
    delayed = delayed_by(np.arange(1.0, 11.0)[:, None], 2, (6, 4))
    assert delayed[:, 0].tolist() == [0, 0, 1, 2, 3, 4, 0, 0, 7, 8]
