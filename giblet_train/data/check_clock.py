"""Whether film and brains run on one clock: lag, drift, the film's speed, subjects that are shifted or copied."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import msgspec

from giblet_train.contract.alignment import misalignment
from giblet_train.data.agreement import copies, subject_shifts
from giblet_train.data.findings import Finding
from giblet_train.data.lag import LagRow
from giblet_train.data.study import Study

FINDINGS = {"shifted": "lag_implausible", "stretched": "stimulus_stretched", "early": "lag_pre_shifted"}


def check_lag(rows: Sequence[LagRow], study: Study) -> list[Finding]:
    """Whether the brain follows the film by the haemodynamic delay, equally in each third.

    rows: as `lag_table` gives them, the average or only subject first. Others are told only where they drift alone.
    """
    average = rows[0]
    found = _finding(average, study)
    if found is None:
        drifting = [finding for row in rows[1:] if not row.agrees and (finding := _finding(row, study))]
        return drifting if average.whole.answers else [*drifting, _no_answer(average)]
    return [found]


def _finding(row: LagRow, study: Study) -> Finding | None:
    wrong = misalignment(row.facts, study.tr_s, study.stimulus_offset_s)
    if wrong is None:
        return None
    return Finding(
        finding=FINDINGS[wrong.kind],
        severity="warning" if wrong.kind == "early" else "error",
        subject="" if row.who == "average" else row.who,
        sentence=wrong.sentence,
        evidence=msgspec.to_builtins(row.facts),
        action=wrong.action,
    )


def _no_answer(average: LagRow) -> Finding:
    return Finding(
        finding="lag_no_answer",
        severity="warning",
        sentence="At no lag does the brain follow the film more than chance.",
        evidence={"score": average.whole.score, "height_sds": average.whole.height},
        action="Check that film and fMRI belong together; few subjects or short scans can also hide it.",
    )


def check_subjects(study: Study) -> list[Finding]:
    """Subjects that are copies of one another, or shifted against the others."""
    findings = [
        Finding(
            finding="subjects_alike",
            severity="error",
            subject=second,
            sentence=f"{second} and {first} are nearly the same: their responses correlate {r:.3f} on average.",
            evidence={"correlation": r},
            action="One of the files is a copy; give each subject's own, or leave one out by data.subjects.",
        )
        for first, second, r in copies(study)
    ]
    shifts = [s for s in subject_shifts(study) if s.answers]
    centre = median(s.shift_trs for s in shifts) if shifts else 0
    findings.extend(
        Finding(
            finding="subject_shifted",
            severity="error",
            subject=shift.subject,
            sentence=f"{shift.subject} runs {shift.shift_trs:+d} TRs against the other subjects.",
            evidence={"shift_trs": shift.shift_trs, "correlation": shift.correlation},
            action="Drop or add the missing volumes at the start of this subject's scan.",
        )
        for shift in shifts
        if abs(shift.shift_trs - centre) >= 2 or (len(shifts) == 2 and abs(shift.shift_trs) >= 2)
    )
    return findings
