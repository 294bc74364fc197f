"""The lag check: finds the delay, a shift, a stretch, and says so when there is nothing to find."""

from dataclasses import replace

import numpy as np
import pytest

from giblet_train.data.statistics.lag import (
    LagEstimate,
    average_lag,
    circular_scores,
    highpass,
    lag_table,
    offset_from_lag,
)
from giblet_train.schema.errors import DataError
from tests.made_study import made_study

STUDY = made_study(scan_lengths_trs=(150, 150), n_subjects=3, lag_trs=3)


def test_an_aligned_study_lags_the_same_in_every_third_and_subject():
    table = lag_table(STUDY)
    assert [row.who for row in table] == ["average", "sub-01", "sub-02", "sub-03"]
    for row in table:
        assert row.whole.lag_trs == 3
        assert row.whole.is_significant
        assert row.agrees
        assert [third.lag_trs for third in row.thirds] == [3, 3, 3]


def test_a_shifted_subject_is_an_outlier():
    bold = {**STUDY.bold, "sub-02": np.roll(STUDY.bold["sub-02"], 3, axis=0)}
    lags = {row.who: row.whole.lag_trs for row in lag_table(replace(STUDY, bold=bold))}
    assert (lags["sub-01"], lags["sub-02"], lags["sub-03"]) == (3, 6, 3)


def test_a_stretched_stimulus_disagrees_between_thirds():
    places = np.linspace(0, STUDY.n_trs - 1, STUDY.n_trs) * 0.95
    slow_features = {
        m: np.stack([np.interp(places, np.arange(STUDY.n_trs), column) for column in x.T], axis=1)
        for m, x in STUDY.features.items()
    }
    average = lag_table(replace(STUDY, features=slow_features))[0]
    assert not average.agrees


def test_unrelated_brains_give_no_answer():
    for seed in range(1, 6):
        other = made_study(scan_lengths_trs=(150, 150), seed=seed)
        average = lag_table(replace(STUDY, bold=other.bold))[0]
        assert not average.whole.is_significant
        with pytest.raises(DataError, match="no lag that beats chance"):
            offset_from_lag(average.whole, 1.5)


def test_the_offset_brings_the_lag_to_the_haemodynamic_delay():
    assert offset_from_lag(LagEstimate(3, 1.0, 0.1, 0.05), 1.5) == 0.0
    assert offset_from_lag(LagEstimate(6, 1.0, 0.1, 0.05), 1.5) == -4.5
    assert offset_from_lag(LagEstimate(-1, 1.0, 0.1, 0.05), 1.5) == 6.0


@pytest.mark.parametrize("late_trs", [-5, 0, 8])
def test_auto_finds_where_the_film_stood_as_the_scan_began(late_trs):
    features = {m: np.roll(x, late_trs, axis=0) for m, x in STUDY.features.items()}
    lag = average_lag(features, STUDY.bold, STUDY.scan_lengths_trs, 1.5)
    assert offset_from_lag(lag, 1.5) == late_trs * 1.5


def test_scores_are_mean_squared_correlations_of_responses_weighed_by_their_variance():
    random = np.random.default_rng(0)
    stimulus, response = random.standard_normal((60, 3)), random.standard_normal((60, 4)) * [4.0, 2.0, 1.0, 1.0]
    response -= response.mean(axis=0)
    weights = response.var(axis=0) / response.var(axis=0).sum()
    scores = circular_scores(stimulus, response)
    for shift in (0, 2, 57):
        pairs = np.corrcoef(stimulus.T, np.roll(response, -shift, axis=0).T)[:3, 3:]
        assert scores[shift] == pytest.approx((pairs**2).mean(axis=0) @ weights)


def test_highpass_takes_away_drifts_and_keeps_the_rest():
    time = np.arange(400)
    fast = np.sin(2 * np.pi * time / 20)
    drift = 5 + 0.01 * time + np.cos(np.pi * (time + 0.5) / 400)
    rest = highpass((fast + drift)[:, None], 1.5)[:, 0]
    assert np.abs(rest - fast)[20:-20].max() < 0.1


def test_too_few_shifts_to_know_chance_are_no_answer_however_high_the_lag_is():
    short = lag_table(made_study(scan_lengths_trs=(30, 30), n_subjects=3, lag_trs=3))[0]
    assert short.whole.height == 0.0 and not short.whole.is_significant and short.clock.lag.height == 0.0
    assert short.agrees
    with pytest.raises(DataError, match="no lag that beats chance"):
        offset_from_lag(short.whole, 1.5)


@pytest.mark.parametrize("constant", ["video", "audio"])
def test_a_constant_picture_or_sound_does_not_hide_the_lag(constant):
    study = made_study(scan_lengths_trs=(150, 150), n_subjects=1, lag_trs=3)
    flat = replace(study, features=study.features | {constant: np.full((300, 4), 7.0, np.float32)})
    rest = {m: x_TF for m, x_TF in study.features.items() if m != constant}
    without = replace(study, features=rest)
    assert lag_table(flat) == lag_table(without)
    assert lag_table(flat)[0].whole.lag_trs == 3 and lag_table(flat)[0].whole.is_significant


def test_a_stimulus_that_never_changes_gives_no_answer():
    table = lag_table(replace(STUDY, features={"text": np.ones((STUDY.n_trs, 4), np.float32)}))
    assert not any(row.whole.is_significant for row in table)
