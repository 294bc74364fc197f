"""Rules for a wrong offset, a wrong film, or a subject out of sync, from the lag analysis before the first step.

A wrong offset may also be found by the final evaluation, if no voxel follows the film.
"""

from __future__ import annotations

from giblet_train.diagnosis.alignment.film import Misalignment, expected_trs, misalignment
from giblet_train.diagnosis.alignment.subjects import find_outlier_subjects
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.registry import WARN_ONLY, fault, rule


@rule(
    group="data",
    explains=(
        "no_better_than_mean",
        "brain_unexplained",
        "overfit",
        "criterion_unreachable",
    ),
    fault=fault(
        "misaligned", "the film is assumed to start 75 s later than it did", **WARN_ONLY, data__stimulus_offset_s=75.0
    ),
)
def misaligned_time(case: RunHistory) -> Finding | None:
    """Report a wrong offset, from the lag over the training TRs or else, less certainly, from the evaluation."""
    return _measured(case) or _evaluated(case)


@rule(
    group="data",
    explains=(
        "no_better_than_mean",
        "brain_unexplained",
        "overfit",
        "criterion_unreachable",
        "misaligned_time",
    ),
    fault=fault("film", "the film is another cut: its half minutes in another order"),
)
def wrong_film(case: RunHistory) -> Finding | None:
    """Report a film in another order, or, less certainly, a film that explains nothing of what brains share."""
    wrong = _misalignment(case)
    if case.data is None or case.data.alignment is None or wrong is None:
        return None
    if wrong.kind not in ("reordered", "unrelated"):
        return None
    facts = case.data.alignment
    return Finding(
        confidence=0.95 if wrong.kind == "reordered" else 0.75,
        sentence=wrong.sentence,
        evidence={
            "sds_above_chance": facts.whole.sds,
            "reading": facts.reading,
            "reading_sds": facts.reading_sds,
            "shared": facts.shared,
            "least_part_seen": facts.least_part,
            "foreseen_sds": facts.foreseen_sds,
        },
        action=wrong.action,
    )


@rule(group="data", explains=("no_better_than_mean", "brain_unexplained", "overfit", "criterion_unreachable"))
def run_shifted(case: RunHistory) -> Finding | None:
    """Report a run whose stimulus has a wrong onset, although the other runs are in step."""
    wrong = _misalignment(case)
    if case.data is None or case.data.alignment is None or wrong is None or wrong.kind != "run":
        return None
    return Finding(
        confidence=0.95,
        sentence=wrong.sentence,
        evidence={
            "lags_trs": {name: lag.lag_trs if lag.answers else None for name, lag in case.data.alignment.runs.items()},
            "expected_trs": list(expected_trs(case.data.tr_s)),
        },
        action=wrong.action,
    )


@rule(group="data", fault=fault("subject", "one subject's volumes come 6 TRs late", **WARN_ONLY))
def subject_apart(case: RunHistory) -> Finding | None:
    """Report a subject shifted against the others, or, less certainly, one who agrees with nobody."""
    if case.data is None or case.data.alignment is None:
        return None
    outliers = find_outlier_subjects(case.data.alignment.subjects, case.data.tr_s)
    if not outliers:
        return None
    first = next((outlier for outlier in outliers if outlier.kind == "shifted"), outliers[0])
    others = ", ".join(outlier.subject for outlier in outliers if outlier is not first)
    return Finding(
        confidence=0.95 if first.kind == "shifted" else 0.75,
        sentence=first.sentence + (f" Also out of sync: {others}." if others else ""),
        evidence={
            subject: {"shift_trs": fact.shift_trs, "sds": fact.sds, "in_step_sds": fact.in_step_sds}
            for subject, fact in case.data.alignment.subjects.items()
        },
        action=first.action,
    )


def _misalignment(case: RunHistory) -> Misalignment | None:
    if case.data is None or case.data.alignment is None:
        return None
    return misalignment(case.data.alignment, case.data.tr_s, case.data.stimulus_offset_s)


def _measured(case: RunHistory) -> Finding | None:
    """Report a significant lag that is implausible, or that differs between thirds."""
    wrong = _misalignment(case)
    if case.data is None or case.data.alignment is None or wrong is None:
        return None
    if wrong.kind not in ("shifted", "stretched"):
        return None
    facts = case.data.alignment
    return Finding(
        confidence=0.95,
        sentence=wrong.sentence,
        evidence={
            "lag_trs": facts.whole.lag_trs,
            "sds_above_chance": facts.whole.sds,
            "thirds_lags_trs": [third.lag_trs if third.answers else None for third in facts.thirds],
            "expected_trs": list(expected_trs(case.data.tr_s)),
            "best_speed": facts.speed,
            "stimulus_offset_s": case.data.stimulus_offset_s,
        },
        action=wrong.action,
    )


def _evaluated(case: RunHistory) -> Finding | None:
    """Report reconstructions better than the mean while responsive voxels are predicted no better than others.

    The confidence is low, because a brain without signal looks the same. A film measured to be in sync is not reported.
    """
    evaluation = case.evaluation
    if evaluation is None or _in_step(case):
        return None
    low, difference = evaluation.encoding.get("r_difference_low"), evaluation.encoding.get("r_difference")
    skill = [evaluation.skill.get(m) for m in case.components if m != "fmri"]
    rebuilt = bool(skill) and all(s is not None and s > 0 for s in skill)
    if not isinstance(low, (int, float)) or low > 0 or not rebuilt:
        return None
    return Finding(
        confidence=0.5,
        sentence=(
            "The film is reconstructed, but responsive voxels are predicted no better than others (r differs by "
            f"{difference:.3f}, interval from {low:.3f}): film and brain may be out of sync."
        ),
        evidence={
            "r_difference": difference,
            "r_difference_low": low,
            "stimulus_offset_s": case.data.stimulus_offset_s if case.data else None,
        },
        action="Run `python -m giblet_train data lag RUN_DIR`, and set data.stimulus_offset_s to what it measures.",
    )


def _in_step(case: RunHistory) -> bool:
    """Return True if the lag over the training TRs is significant and plausible."""
    facts = case.data.alignment if case.data else None
    return bool(case.data and facts and facts.whole.answers and not misalignment(facts, case.data.tr_s, 0.0))
