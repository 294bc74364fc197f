"""Judge film against brain from the lags measured before the first step. Pure.

Lags are in TRs, positive when the brain follows the film. A lag that is not clearly above its circular shifts is not
significant, and nothing is concluded from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from giblet_train.schema.records import AlignmentFacts, LagFact

PLAUSIBLE_LAG_S = (2.5, 8.0)
"""Lags of a haemodynamic response; half a TR more on both sides, since lags are whole TRs."""
PRE_SHIFTED_LAG_S = -3.1
"""Earliest lag of responses that were shifted by the usual 4.5 s beforehand."""
DELAY_S = 4.5
ANSWER_SDS = 6.0
"""Standard deviations above the circular shifts from which a lag is significant."""
UNRELATED_SDS = 5.0
"""Height that one in a hundred unrelated films reaches."""
CERTAIN_SDS = 2.0
"""Height above ANSWER_SDS that is expected of a film that is detected 39 times in 40."""
FORESEEN_SDS = 3.0
"""Features of another film predict held-out TRs with -2.4 to 2.2 standard deviations, the right film with 7 to 11."""
LEAST_RESPONSIVE = 0.1
"""Fraction of voxels. One in a hundred exceeds the 99th percentile by chance, which is at most a tenth of a tenth. With
fewer voxels, those selected because they agree would seem to share more than they do."""
LEAST_SHARED = 0.5
"""Fraction of their mean response that brains must share before it counts that the film explains none of it."""
MOST_UNSEEN = 0.5
"""A film is the wrong one if this fraction of the shared response would have been detected; the right film explains 40
to 56 % of it in the demo studies."""
MAX_DISAGREEMENT_TRS = 2
STRETCHED_SDS = 8.0
"""Height that another speed or order must reach, because many are tried; it must also fit clearly better."""
BETTER = 0.75
"""Largest fraction of that fit that the film may have at its own speed."""
LEAST_DRIFT_TRS = 3.0


class Misalignment(msgspec.Struct, frozen=True, kw_only=True):
    """Film and brain out of sync."""

    kind: Literal["shifted", "run", "stretched", "reordered", "early", "unrelated"]
    """Wrong offset, of the study or of one run; wrong speed; wrong order; early, which training survives; unrelated,
    which is not proved."""
    sentence: str
    """What was measured."""
    action: str
    """What to do."""

    @property
    def stops(self) -> bool:
        """Return True if it is certain and severe enough to stop a run before its first step."""
        return self.kind not in ("early", "unrelated")


def expected_trs(tr_s: float) -> tuple[int, int]:
    """Return the smallest and largest plausible lag in TRs."""
    low, high = PLAUSIBLE_LAG_S
    return math.ceil(low / tr_s - 0.5), math.floor(high / tr_s + 0.5)


def is_early(lag_trs: int, tr_s: float) -> bool:
    """Return True if the lag is too short for an HRF but fits data that were already shifted or convolved."""
    return PRE_SHIFTED_LAG_S / tr_s - 0.5 <= lag_trs < expected_trs(tr_s)[0]


def is_stretched(facts: AlignmentFacts) -> bool:
    """Return True if significant thirds disagree, or if another playback speed fits clearly better."""
    own, other, lags = facts.whole.sds or 0.0, facts.speed_sds or 0.0, facts.speed_lags_trs
    lags_trs = [third.lag_trs for third in facts.thirds if third.answers]
    if lags_trs and max(lags_trs) - min(lags_trs) > MAX_DISAGREEMENT_TRS:
        return True
    return bool(other > STRETCHED_SDS and own < BETTER * other and max(lags) - min(lags) >= LEAST_DRIFT_TRS)


def misalignment(facts: AlignmentFacts, tr_s: float, offset_s: float) -> Misalignment | None:
    """Return the misalignment of film and brain; None if there is none, or nothing is significant.

    offset_s: assumed film time of the first volume.
    """
    if late := shifted_runs(facts, tr_s):
        return _shifted_run(facts, late, tr_s)
    if is_stretched(facts):
        return _stretched(facts)
    if not facts.whole.answers:
        return _reordered(facts) or _unrelated(facts)
    lag, (low, high) = facts.whole.lag_trs, expected_trs(tr_s)
    if low <= lag <= high:
        return None
    right_s = offset_s + (round(DELAY_S / tr_s) - lag) * tr_s
    measured = f"The brain follows the film by {lag} TRs ({lag * tr_s:g} s) where {low} to {high} are expected"
    if is_early(lag, tr_s):
        return Misalignment(
            kind="early",
            sentence=f"{measured}, as if the fMRI had been shifted, or the features convolved, beforehand.",
            action=f"Set data.stimulus_offset_s to {right_s:g} (or to auto); do not convolve features beforehand.",
        )
    return Misalignment(
        kind="shifted",
        sentence=f"{measured}: film and brain are out of step.",
        action=f"Set data.stimulus_offset_s to {right_s:g} (or to auto), and look at `giblet data lag NODE CONFIG`.",
    )


def shifted_runs(facts: AlignmentFacts, tr_s: float) -> dict[str, LagFact]:
    """Return the runs that certainly have another lag than a response, where another run has a plausible one."""
    low, high = expected_trs(tr_s)
    lag_by_name = {name: lag for name, lag in facts.runs.items() if lag.answers}
    usual = [name for name, lag in lag_by_name.items() if low <= lag.lag_trs <= high or is_early(lag.lag_trs, tr_s)]
    late = {n: lag for n, lag in lag_by_name.items() if n not in usual and (lag.sds or 0.0) > STRETCHED_SDS}
    return late if usual else {}


def _shifted_run(facts: AlignmentFacts, late: Mapping[str, LagFact], tr_s: float) -> Misalignment:
    low, high = expected_trs(tr_s)
    runs = "; ".join(f"in {name} by {lag.lag_trs:+d} TRs ({lag.lag_trs * tr_s:+g} s)" for name, lag in late.items())
    moves = "; ".join(f"{name} by {lag.lag_trs * tr_s - DELAY_S:+.1f} s" for name, lag in late.items())
    return Misalignment(
        kind="run",
        sentence=(
            f"The brain follows the stimulus {runs}, where {low} to {high} TRs are expected; it follows the other runs "
            "as a response does."
        ),
        action=f"Correct scan_onset_s in the table of runs (`giblet data show NODE CONFIG`): move {moves}.",
    )


def alignment_line(facts: AlignmentFacts, tr_s: float) -> str:
    """Describe the measured lag, significant or not."""
    low, high = expected_trs(tr_s)
    if not facts.whole.answers:
        return (
            f"film and brain: no answer; no lag within ±{facts.reach_trs} TRs is {ANSWER_SDS:g} standard "
            f"deviations above chance (the best {facts.whole.sds or 0.0:.1f})"
        )
    thirds = [str(third.lag_trs) if third.answers else "no answer" for third in facts.thirds]
    return (
        f"film and brain: the brain follows by {facts.whole.lag_trs} TRs ({facts.whole.lag_trs * tr_s:g} s; {low} to "
        f"{high} expected), {facts.whole.sds or 0.0:.1f} standard deviations above chance; thirds: {', '.join(thirds)}"
    )


def _reordered(facts: AlignmentFacts) -> Misalignment | None:
    height = facts.reading_sds or 0.0
    if height <= STRETCHED_SDS or (facts.whole.sds or 0.0) >= BETTER * height:
        return None
    return Misalignment(
        kind="reordered",
        sentence=(
            f"The brain follows the film read {facts.reading} ({height:.1f} standard deviations above chance), and not "
            f"as it is ({facts.whole.sds or 0.0:.1f})."
        ),
        action="Give film and scans in one order (data.bold, data.video, data.scan_lengths_trs).",
    )


def _unrelated(facts: AlignmentFacts) -> Misalignment | None:
    """Report that subjects agree with each other while the film, which would be detectable, explains none of it."""
    has_signal, unseen = facts.shared or 0.0, facts.least_part or math.inf
    knows = has_signal >= LEAST_SHARED and (facts.responsive_part or 0.0) >= LEAST_RESPONSIVE and unseen <= MOST_UNSEEN
    foreseen = math.inf if facts.foreseen_sds is None else facts.foreseen_sds
    if not knows or foreseen > FORESEEN_SDS or (facts.whole.sds or 0.0) > UNRELATED_SDS:
        return None
    return Misalignment(
        kind="unrelated",
        sentence=(
            f"The brains share {has_signal:.0%} of their mean response, and the film explains none of it at any lag: "
            f"{unseen:.0%} would have been detected. Its features predict held-out TRs no better than other times "
            f"({foreseen:+.1f} standard deviations). It is another film, or in another order, or these voxels follow "
            "nothing that its features describe."
        ),
        action="Check that film, annotations and scans belong together, run by run: `giblet data check NODE CONFIG`.",
    )


def _stretched(facts: AlignmentFacts) -> Misalignment:
    lags_trs = [third.lag_trs for third in facts.thirds if third.answers]
    apart = bool(lags_trs) and max(lags_trs) - min(lags_trs) > MAX_DISAGREEMENT_TRS
    speed = 1 / (facts.speed or 1.0)
    lags = ", ".join(f"{lag:.0f}" for lag in (lags_trs if apart else facts.speed_lags_trs))
    return Misalignment(
        kind="stretched",
        sentence=(
            f"The brain follows the film by {lags} TRs in the thirds of the training TRs: the two clocks drift apart"
            + ("." if apart else f", as a film does that is played at {speed:.3f} times its speed.")
        ),
        action="Use the film as shown: crop it, never resample it to the scan; mind 24 against 25 frames a second.",
    )
