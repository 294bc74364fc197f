"""Check the timing of a study: lag, drift, film speed, and subjects that are shifted or copied."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from giblet_train.data.checks.findings import Finding
from giblet_train.data.statistics.lag import LagRow
from giblet_train.data.statistics.subject_agreement import duplicate_subjects, subject_agreements
from giblet_train.data.study import Study
from giblet_train.diagnosis.alignment.film import DELAY_S, PLAUSIBLE_LAG_S, PRE_SHIFTED_LAG_S, misalignment
from giblet_train.diagnosis.alignment.subjects import find_outlier_subjects

FINDINGS = {
    "run": "run_shifted",
    "shifted": "lag_implausible",
    "stretched": "stimulus_stretched",
    "reordered": "film_reordered",
    "early": "lag_pre_shifted",
    "unrelated": "film_unrelated",
}
PROBABLE_SDS = 2.5
"""Height from which two estimates of a run's lag are believed if they agree (`benchmarks.shifted_runs`)."""
SAME_LAG_S = 3.0
"""Largest difference of two that agree."""
APART = {"shifted": "subject_shifted", "alone": "subject_alone"}


def check_clock(lags: Sequence[LagRow], runs: Sequence[LagRow], study: Study) -> list[Finding]:
    """Run all checks of timing. Runs are judged by themselves only if the study as a whole is not at fault."""
    whole = [*check_lag(lags, study), *check_subjects(study)]
    if any(finding.severity == "error" for finding in whole):
        return whole
    findings = check_runs(runs, study) if len(study.scan_lengths_trs) > 1 else []
    has_answer = findings or any(row.whole.is_significant for row in runs)
    return [*(f for f in whole if not (has_answer and f.finding == "lag_no_answer")), *findings]


def check_lag(rows: Sequence[LagRow], study: Study) -> list[Finding]:
    """Check that the brain follows the film by the haemodynamic delay, equally in each third.

    Args:
        rows: From `lag_table`: the average (or only) subject first. The others are reported only if they alone drift.
    """
    average = rows[0]
    finding = _finding(average, study)
    if finding is None:
        drifting = [finding for row in rows[1:] if not row.agrees and (finding := _finding(row, study))]
        return drifting if average.whole.is_significant else [*drifting, _no_answer(average)]
    return [finding]


def _finding(row: LagRow, study: Study) -> Finding | None:
    wrong = misalignment(row.facts, study.tr_s, study.stimulus_offset_s)
    if wrong is None:
        return None
    return Finding(
        finding=FINDINGS[wrong.kind],
        severity="error" if wrong.stops else "warning",
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


def check_runs(rows: Sequence[LagRow], study: Study) -> list[Finding]:
    """Find runs that are late or early against their stimulus, and subjects who are shifted within one run.

    rows: From `run_lag_table`.
    """
    findings = [
        Finding(
            finding="run_shifted",
            severity="error",
            sentence=f"{row.who}: the brain follows the stimulus by {row.whole.lag_trs:+d} TRs "
            f"({row.whole.lag_trs * study.tr_s:+g} s), {row.whole.height:.1f} standard deviations above chance; a "
            f"response takes {PLAUSIBLE_LAG_S[0]:g} to {PLAUSIBLE_LAG_S[1]:g} s.",
            evidence={"lag_trs": row.whole.lag_trs, "sds": row.whole.height},
            action=f"Move the onset of this run's stimulus by {row.whole.lag_trs * study.tr_s - DELAY_S:+.1f} s.",
        )
        for row in rows
        if row.whole.is_significant and not _is_plausible(row.whole.lag_trs * study.tr_s)
    ]
    findings.extend(_probably_shifted(row, study.tr_s) for row in rows if _is_probably_shifted(row, study.tr_s))
    starts = np.cumsum([0, *study.scan_lengths_trs]).tolist()
    for name, first, stop in zip(study.block_names, starts, starts[1:], strict=False):
        agreements = subject_agreements(study.part(first, stop))
        findings.extend(
            Finding(
                finding="subject_shifted_in_run",
                severity="error",
                subject=outlier.subject,
                sentence=f"{name}: {outlier.sentence}",
                evidence=msgspec.to_builtins(agreements[outlier.subject]),
                action=outlier.action,
            )
            for outlier in find_outlier_subjects(agreements, study.tr_s)
            if outlier.kind == "shifted"
        )
    return findings


def _is_probably_shifted(row: LagRow, tr_s: float) -> bool:
    """Return True if a run without a certain answer has an implausible lag in which two estimates agree."""
    lag_s, late_s = row.whole.lag_trs * tr_s, row.late_trs * tr_s
    heights = row.whole.height, row.late_sds
    return (
        not row.whole.is_significant
        and min(heights) > PROBABLE_SDS
        and not _is_plausible(lag_s)
        and abs(late_s) > SAME_LAG_S
        and abs(lag_s - DELAY_S - late_s) <= SAME_LAG_S
    )


def _probably_shifted(row: LagRow, tr_s: float) -> Finding:
    late_s, height = row.late_trs * tr_s, row.whole.height
    shift = f"{abs(late_s):g} s {'later' if late_s > 0 else 'earlier'}"
    return Finding(
        finding="run_shifted",
        severity="warning",
        sentence=f"{row.who}: the stimulus probably begins {shift} than stated (z = {height:.1f}): the brain follows "
        f"it best by {row.whole.lag_trs * tr_s:+g} s, and agrees best with the response that the other runs predict if "
        f"this comes {shift} (z = {row.late_sds:.1f}).",
        evidence={"late_trs": row.late_trs, "sds": height, "model_sds": row.late_sds, "lag_trs": row.whole.lag_trs},
        action="Look at the onset of this run in `giblet data show`, and compare it with the log of the experiment. If "
        f"the log agrees, move the onset by {late_s:+g} s.",
    )


def _is_plausible(lag_s: float) -> bool:
    return PRE_SHIFTED_LAG_S <= lag_s <= PLAUSIBLE_LAG_S[1]


def check_subjects(study: Study) -> list[Finding]:
    """Find subjects that are copies of one another, shifted against the others, or alone among them."""
    agreements = subject_agreements(study)
    findings = [
        Finding(
            finding="subjects_alike",
            severity="error",
            subject=second,
            sentence=f"{second} and {first} are nearly the same: their responses correlate {r:.3f} on average.",
            evidence={"correlation": r},
            action="One of the files is a copy; give each subject's own, or leave one out by data.subjects.",
        )
        for first, second, r in duplicate_subjects(study)
    ]
    findings.extend(
        Finding(
            finding=APART[outlier.kind],
            severity="error" if outlier.kind == "shifted" else "warning",
            subject=outlier.subject,
            sentence=outlier.sentence,
            evidence=msgspec.to_builtins(agreements[outlier.subject]),
            action=outlier.action,
        )
        for outlier in find_outlier_subjects(agreements, study.tr_s)
    )
    return findings
