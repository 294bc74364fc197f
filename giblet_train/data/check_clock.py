"""Whether film and brains run on one clock: lag, drift, the film's speed, subjects that are shifted or copied."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from giblet_train.data.agreement import copies, subject_shifts
from giblet_train.data.findings import Finding
from giblet_train.data.lag import LagRow, fitting_speed, offset_from_lag
from giblet_train.data.study import Study

PLAUSIBLE_LAG_S = (2.5, 8.0)
PRE_SHIFTED_LAG_S = (-3.1, 2.5)


def check_lag(rows: Sequence[LagRow], study: Study) -> list[Finding]:
    """Whether the brain follows the film by the haemodynamic delay, equally in each third.

    rows: as `lag_table` gives them, the average or only subject first.
    """
    tr_s = study.tr_s
    average = rows[0]
    findings = [_disagreement(row) for row in ((average,) if not average.agrees else rows) if not row.agrees]
    if not average.whole.answers:
        return [*findings, _unrelated(average, study)] if average.agrees else findings
    lag_s = average.whole.lag_trs * tr_s
    if average.whole.answers and average.agrees and not PLAUSIBLE_LAG_S[0] <= lag_s <= PLAUSIBLE_LAG_S[1]:
        findings.append(_implausible(average, lag_s, tr_s))
    return findings


def _disagreement(row: LagRow) -> Finding:
    lags = [third.lag_trs for third in row.thirds]
    return Finding(
        finding="stimulus_stretched",
        severity="error",
        subject="" if row.who == "average" else row.who,
        sentence=f"The lag is {', '.join(map(str, lags))} TRs in the thirds of the scan: the two clocks drift apart.",
        evidence={"lags_trs": lags, "answers": [int(third.answers) for third in row.thirds]},
        action="Crop the stimulus, never resample it; check data.tr, data.scan_lengths_trs and the film's own speed.",
    )


def _implausible(average: LagRow, lag_s: float, tr_s: float) -> Finding:
    pre_shifted = PRE_SHIFTED_LAG_S[0] <= lag_s < PRE_SHIFTED_LAG_S[1]
    offset_s = offset_from_lag(average.whole, tr_s)
    said = "as if the fMRI had been shifted already" if pre_shifted else "which no haemodynamic response does"
    return Finding(
        finding="lag_pre_shifted" if pre_shifted else "lag_implausible",
        severity="warning" if pre_shifted else "error",
        sentence=f"The brain follows the film by {average.whole.lag_trs} TRs ({lag_s:g} s), {said}.",
        evidence={"lag_trs": average.whole.lag_trs, "lag_s": lag_s, "suggested_offset_s": offset_s},
        action=(
            f"If film and scan began at different times, add {offset_s:g} s to data.stimulus_offset_s; if features "
            "were convolved beforehand, do not convolve them, or the kernel was applied backwards."
        ),
    )


def _unrelated(average: LagRow, study: Study) -> Finding:
    """Brain and film do not follow one another; a film at another speed is the likeliest cause that can be seen."""
    fit = fitting_speed(study)
    if fit is None:
        return Finding(
            finding="lag_no_answer",
            severity="warning",
            sentence="At no lag does the brain follow the film more than chance.",
            evidence={"score": average.whole.score, "height_sds": average.whole.height},
            action="Check that film and fMRI belong together; few subjects or short scans can also hide it.",
        )
    return Finding(
        finding="stimulus_stretched",
        severity="error",
        sentence=f"The brain follows the film only when the film is played at {fit:.2f} times its speed.",
        evidence={"speed": fit},
        action="Use the film as it was shown: never resample it to the scan, and mind 24 against 25 frames a second.",
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
