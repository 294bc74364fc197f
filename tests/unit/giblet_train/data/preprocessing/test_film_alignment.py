"""Film against brain over the training TRs: shifts and stretches are named, honest and unrelated brains are not."""

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from giblet_train.data.preprocessing.film_alignment import alignment_of
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.diagnosis.alignment.film import alignment_line, expected_trs, misalignment
from giblet_train.schema.records import AlignmentFacts, LagFact
from tests.engine_study import split_data
from tests.made_study import made_config, made_study

STUDY = made_study(scan_lengths_trs=(150, 150), n_subjects=3, lag_trs=3)
IN_STEP = AlignmentFacts(whole=LagFact(lag_trs=3, sds=11.0, answers=True), thirds=(), reach_trs=60)


def prepared(study=STUDY, fold=0, **data):
    config = made_config(split={"gap_trs": 14, "n_folds": 5, "fold": fold}, data=data)
    return prepare_split(study, make_split(study.scan_lengths_trs, study.border_trs, config.split), config)


def kind_of(data):
    wrong = misalignment(alignment_of(data), 1.5, 0.0)
    return wrong and wrong.kind


def with_film(data, new_frames):
    return replace(data, targets={m: new_frames(x) for m, x in data.targets.items()})


@pytest.mark.parametrize("fold", range(5))
def test_an_honest_study_is_in_step_in_every_fold(fold):
    facts = alignment_of(prepared(fold=fold))
    assert (facts.whole.lag_trs, facts.whole.answers) == (3, True)
    assert misalignment(facts, 1.5, 0.0) is None


def test_convolving_the_inputs_does_not_move_what_is_measured():
    assert alignment_of(prepared(apply_hrf=True)) == alignment_of(prepared(apply_hrf=False))


@pytest.mark.parametrize("late_trs", [-20, -8, 8, 20])
def test_a_shifted_film_is_named_with_the_offset_that_fixes_it(late_trs):
    facts = alignment_of(with_film(prepared(), lambda x: np.roll(x, -late_trs, axis=0)))
    wrong = misalignment(facts, 1.5, 10.0)
    assert wrong.kind == "shifted"
    assert f"by {3 + late_trs} TRs" in wrong.sentence
    assert f"stimulus_offset_s to {10.0 - late_trs * 1.5:g} " in wrong.action


@pytest.mark.parametrize("speed", [0.95, 1.05])
def test_a_stretched_film_is_named(speed):
    def played(x):
        places = np.arange(len(x))
        return np.stack([np.interp(places * speed, places, column) for column in x.T], axis=1)

    assert kind_of(with_film(prepared(), played)) == "stretched"


def test_what_follows_another_film_gets_no_answer_and_is_reported_to_follow_another():
    for seed in range(1, 3):
        other = made_study(scan_lengths_trs=(150, 150), seed=seed)
        facts = alignment_of(prepared(replace(STUDY, bold=other.bold)))
        assert not facts.whole.answers
        wrong = misalignment(facts, 1.5, 0.0)
        assert (wrong.kind, wrong.stops) == ("unrelated", False)
        assert "no answer" in alignment_line(facts, 1.5)


def test_nothing_is_reported_of_the_film_where_its_own_would_not_have_been_seen():
    facts = alignment_of(prepared(replace(STUDY, bold=made_study(scan_lengths_trs=(150, 150), seed=1).bold)))
    for unknown in (
        {"foreseen_sds": 7.0},
        {"shared": 0.2},
        {"responsive_part": 0.02},
        {"least_part": 0.9},
        {"shared": None},
    ):
        assert misalignment(structs.replace(facts, **unknown), 1.5, 0.0) is None


def test_a_film_of_which_only_its_lesser_features_are_followed_is_not_another():
    """The engine's made brains follow three of twenty, of twelve and of eight features, as large as all others."""
    facts = alignment_of(split_data())
    assert not facts.whole.answers and facts.foreseen_sds > 6
    assert misalignment(facts, 1.5, 0.0) is None


@pytest.mark.parametrize(
    ("order", "direction"),
    [
        (lambda x: x[::-1], "backwards"),
        (lambda x: np.concatenate([x[150::-1], x[:150:-1]]), "backwards in each run"),
        (lambda x: np.concatenate([x[150:], x[:150]]), "with its runs in the order 2, 1"),
    ],
)
def test_a_film_in_another_order_is_named_by_it(order, direction):
    facts = alignment_of(with_film(prepared(), order))
    wrong = misalignment(facts, 1.5, 0.0)
    assert (wrong.kind, wrong.stops) == ("reordered", True)
    assert f"read {direction} (" in wrong.sentence


def test_held_out_brains_are_not_looked_at():
    data = prepared()
    held_out = np.setdiff1d(np.arange(STUDY.n_trs), data.split.train)

    def spoilt(array):
        copy = np.array(array)
        copy[held_out] = 1e6
        return copy

    spoilt_data = replace(data, bold={s: spoilt(data.bold[s]) for s in data.subjects})
    assert alignment_of(spoilt_data) == alignment_of(data)


def test_numbers_that_are_not_finite_are_left_to_minute_one():
    assert alignment_of(with_film(prepared(), lambda x: np.where(x > 3, np.nan, x))) is None


@pytest.mark.parametrize(
    ("lag_trs", "kind"), [(-3, "shifted"), (-2, "early"), (1, "early"), (2, None), (5, None), (6, "shifted")]
)
def test_what_a_response_may_lag(lag_trs, kind):
    assert expected_trs(1.5) == (2, 5)
    alignment = structs.replace(IN_STEP, whole=LagFact(lag_trs=lag_trs, sds=9.0, answers=True))
    wrong = misalignment(alignment, 1.5, 0.0)
    assert (wrong and wrong.kind) == kind


def test_thirds_that_drift_are_reported_in_trs():
    thirds = tuple(LagFact(lag_trs=lag, sds=9.0, answers=True) for lag in (8, 17, 20))
    wrong = misalignment(structs.replace(IN_STEP, thirds=thirds), 1.5, 0.0)
    assert wrong.kind == "stretched"
    assert "by 8, 17, 20 TRs in the thirds" in wrong.sentence


@pytest.mark.parametrize("late_trs", [-12, 10])
def test_a_run_with_a_wrong_onset_is_named_and_no_other(late_trs):
    data = prepared(made_study(scan_lengths_trs=(260, 260), n_subjects=3, lag_trs=3))

    def late(x_TF):
        return np.concatenate([x_TF[:260], np.roll(x_TF[260:], -late_trs, axis=0)])

    assert misalignment(alignment_of(data), 1.5, 0.0) is None
    facts = alignment_of(with_film(data, late))
    wrong = misalignment(facts, 1.5, 0.0)
    assert wrong.kind == "run" and wrong.stops
    assert f"in scan 2 by {3 + late_trs:+d} TRs" in wrong.sentence and "scan 1" not in wrong.sentence
    assert f"move scan 2 by {late_trs * 1.5:+.1f} s" in wrong.action


def test_a_run_is_not_accused_if_no_other_run_is_in_step():
    late = {name: LagFact(lag_trs=20, sds=12.0, answers=True) for name in ("a", "b")}
    assert misalignment(structs.replace(IN_STEP, runs=late), 1.5, 0.0) is None
    weak = {"a": LagFact(lag_trs=3, sds=9.0, answers=True), "b": LagFact(lag_trs=20, sds=7.0, answers=True)}
    assert misalignment(structs.replace(IN_STEP, runs=weak), 1.5, 0.0) is None
