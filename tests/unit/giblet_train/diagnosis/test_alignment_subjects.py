"""Subjects against one another: who is shifted, or alone, is named; brains that share what they saw are not."""

from dataclasses import replace

import numpy as np
import pytest

from giblet_train.data.statistics.subject_agreement import split_half_reliability, subject_agreements
from giblet_train.diagnosis.alignment.subjects import find_outlier_subjects
from giblet_train.schema.records import AgreementFact
from tests.made_study import made_study

STUDY = made_study(scan_lengths_trs=(150, 150), n_subjects=4)


def outliers_of(bold):
    agreements = subject_agreements(replace(STUDY, bold={**STUDY.bold, **bold}))
    return [(outlier.kind, outlier.subject) for outlier in find_outlier_subjects(agreements, STUDY.tr_s)], agreements


def test_subjects_in_step_are_not_accused_nor_where_all_are_noise():
    assert outliers_of({}) == ([], outliers_of({})[1])
    random = np.random.default_rng(0)
    assert outliers_of({s: random.standard_normal(y.shape) for s, y in STUDY.bold.items()})[0] == []


@pytest.mark.parametrize("late_trs", [-6, 2, 40, 150])
def test_a_subject_that_is_late_is_named_with_its_trs_however_late(late_trs):
    outliers, agreements = outliers_of({"sub-03": np.roll(STUDY.bold["sub-03"], late_trs, axis=0)})
    assert outliers == [("shifted", "sub-03")]
    assert abs(agreements["sub-03"].shift_trs) == abs(late_trs)


def test_a_subject_who_saw_another_film_is_alone():
    outliers, agreements = outliers_of({"sub-01": STUDY.bold["sub-01"][::-1]})
    assert outliers == [("alone", "sub-01")]
    assert find_outlier_subjects({s: agreements[s] for s in ("sub-01", "sub-02")}, 1.5) == [], (
        "of two, nobody knows which"
    )


def test_too_few_trs_say_nothing():
    short = made_study(scan_lengths_trs=(40, 40))
    assert all(fact.sds == 0.0 for fact in subject_agreements(short).values())


def test_a_film_that_repeats_itself_shifts_nobody():
    fact = AgreementFact(shift_trs=460, sds=30.0, in_step_sds=29.0)
    assert find_outlier_subjects({"sub-01": fact, "sub-02": fact, "sub-03": fact}, 1.5) == []


def test_halves_share_their_signal_and_of_noise_nothing():
    random = np.random.default_rng(1)
    signal_RV, one_RV, other_RV, third_RV = random.standard_normal((4, 500, 20))
    # The mean of two halves holds the signal's variance and half of the noise's: 1 / (1 + 1/2).
    assert split_half_reliability(signal_RV + one_RV, signal_RV + other_RV) == pytest.approx(2 / 3, abs=0.06)
    assert split_half_reliability(one_RV, third_RV) == pytest.approx(0.0, abs=0.1)
