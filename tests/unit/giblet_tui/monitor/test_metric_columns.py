"""Columns, smoothing and reduction, against plain loops and against the values themselves."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from giblet_tui.monitor.metric_columns import (
    BLOCK,
    NAMES,
    Points,
    Range,
    Smoother,
    StepColumns,
    decayed_sum,
    gaps,
    log10,
    reduced,
    value_at,
)
from tests import fleets


def points(*pairs: tuple[float, float]) -> Points:
    return Points(np.array([x for x, _ in pairs], float), np.array([y for _, y in pairs], float))


def looped_average(values: list[float], decay: float) -> list[float]:
    """Return the definition, one value at a time."""
    total = weight = 0.0
    averages = []
    for value in values:
        is_finite = math.isfinite(value)
        total = decay * total + (value if is_finite else 0.0)
        weight = decay * weight + is_finite
        averages.append(total / weight if is_finite else math.nan)
    return averages


def test_columns_hold_what_the_records_say() -> None:
    run = fleets.run(steps=45, nan_from=30)
    curves = StepColumns().curves(run.steps, run.epochs)
    assert curves.step_N.tolist() == [s.step for s in run.steps]
    assert curves.lr_N.tolist() == [s.lr for s in run.steps]
    assert set(curves.loss) == set(curves.train) == set(curves.validation) == set(NAMES)
    assert curves.loss["fmri"].tolist() == [s.loss["fmri"] for s in run.steps]
    assert np.isnan(curves.loss["audio"]).tolist() == [s.step >= 30 for s in run.steps]
    assert curves.validation["video"].tolist() == [e.validation.loss["video"] for e in run.epochs if e.validation]


def test_columns_read_each_record_once_and_start_again_for_another_history() -> None:
    run = fleets.run(steps=600)
    columns = StepColumns()
    early = columns.curves(run.steps[:300], ())
    first_values = early.loss["total"].copy()
    late = columns.curves(run.steps, ())
    assert late.origin == early.origin
    assert len(late.step_N) == 600
    assert (early.loss["total"] == first_values).all()
    sparse_curves = columns.curves(run.steps[::7], ())
    assert sparse_curves.origin != late.origin
    assert sparse_curves.step_N.tolist() == [s.step for s in run.steps[::7]]


def test_columns_of_nothing() -> None:
    curves = StepColumns().curves((), ())
    assert all(len(column) == 0 for column in [curves.step_N, *curves.loss.values(), *curves.validation.values()])


@given(
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), max_size=5 * BLOCK),
    st.floats(0.01, 0.995),
    st.integers(0, 5 * BLOCK),
)
def test_smoothing_is_the_debiased_average_however_it_is_fed(values: list[float], decay: float, cut: int) -> None:
    array = np.array(values, float)
    smoother = Smoother(decay)
    smoother.smoothed(array[:cut])
    expected = np.array(looped_average(values, decay))
    np.testing.assert_allclose(smoother.smoothed(array), expected, rtol=1e-6, atol=1e-4)


def test_a_constant_stays_itself_from_the_first_value_on() -> None:
    np.testing.assert_allclose(Smoother(0.99).smoothed(np.full(1000, 7.0)), 7.0)


def test_decayed_sum_over_many_blocks() -> None:
    values = np.random.default_rng(0).normal(size=BLOCK**2 + 17)
    expected, total = [], 3.0
    for value in values:
        total = 0.9 * total + value
        expected.append(total)
    np.testing.assert_allclose(decayed_sum(values, 0.9, 3.0), expected, rtol=1e-9, atol=1e-9)


@given(st.integers(1, 4000), st.integers(2, 300), st.integers(0, 10_000))
def test_reduction_keeps_the_extremes_of_every_column(size: int, columns: int, seed: int) -> None:
    random_of = np.random.default_rng(seed)
    x, y = np.sort(random_of.uniform(0, 100, size)), random_of.normal(size=size)
    low, high = reduced(Points(x, y), Range(0, 100), columns, joined=False)
    place = np.rint(x / 100 * (columns - 1)).astype(int)
    for column in range(columns):
        inside = y[place == column]
        if len(inside):
            assert (low[column], high[column]) == (inside.min(), inside.max())
        else:
            assert np.isnan(low[column])


def test_reduction_draws_a_line_between_points_but_not_over_a_gap() -> None:
    low, high = reduced(points((0, 0), (4, 4), (6, math.nan), (8, 8), (10, 10)), Range(0, 10), 11)
    np.testing.assert_allclose(low, [0, 1, 2, 3, 4, np.nan, np.nan, np.nan, 8, 9, 10])
    np.testing.assert_allclose(high, low)


@pytest.mark.parametrize("pairs", [(), ((3.0, 2.0),), ((3.0, math.nan),), ((20.0, 1.0),)])
def test_reduction_of_hardly_anything(pairs: tuple[tuple[float, float], ...]) -> None:
    low, high = reduced(points(*pairs), Range(0, 10), 11)
    finite_points = [(i, v) for i, v in enumerate(low) if np.isfinite(v)]
    assert finite_points == ([(3, 2.0)] if pairs == ((3.0, 2.0),) else [])
    assert np.array_equal(low, high, equal_nan=True)


def test_a_line_that_enters_and_leaves_the_window_is_seen_in_it() -> None:
    low, _ = reduced(points((0, 0), (100, 100)), Range(40, 60), 21)
    np.testing.assert_allclose(low, np.arange(40, 61))


def test_gaps_values_and_logarithms() -> None:
    series = points((0, 1), (1, math.nan), (2, 10), (3, math.nan))
    assert gaps(series, Range(0, 2.5)).tolist() == [1]
    assert value_at(series, 2.7) == 10
    assert math.isnan(value_at(series, -1)) and math.isnan(value_at(series, 1))
    np.testing.assert_allclose(log10(np.array([100.0, 0.0, -1.0, math.nan])), [2, np.nan, np.nan, np.nan])


def test_smoothing_of_noise_keeps_its_mean() -> None:
    random_of = random.Random(1)
    noisy = np.array([1 + random_of.gauss(0, 0.1) for _ in range(5000)])
    assert abs(Smoother(0.99).smoothed(noisy)[-1] - 1) < 0.05


def test_a_component_of_any_name_has_a_column_that_begins_with_gaps() -> None:
    steps = [replace(step, loss={"fmri": 0.5}) for step in fleets.run(steps=10).steps]
    later = [replace(step, loss={"fmri": 0.5, "pose": 0.25}) for step in steps[6:]]
    columns = StepColumns()
    columns.curves(steps[:6], ())
    loss = columns.curves([*steps[:6], *later], ()).loss
    assert np.isnan(loss["pose"][:6]).all() and list(loss["pose"][6:]) == [0.25] * 4
    assert list(loss["fmri"]) == [0.5] * 10
