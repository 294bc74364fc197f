"""Film against brain, judged on the lags that were measured before the first step. Pure.

Lags are in TRs, positive when the brain follows the film. A lag that does not stand out of its circular shifts says
nothing, and nothing is then said.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from giblet_train.schema.records import AlignmentFacts

PLAUSIBLE_LAG_S = (2.5, 8.0)
"""Of a haemodynamic response; half a TR more on both sides, since lags are whole TRs."""
PRE_SHIFTED_LAG_S = -3.1
"""The earliest lag of responses that were shifted by the usual 4.5 s beforehand."""
DELAY_S = 4.5
ANSWER_SDS = 6.0
"""A lag answers when it stands so many standard deviations above the circular shifts."""
UNRELATED_SDS = 5.0
"""Of responses that follow another film, one in a hundred reaches it."""
CERTAIN_SDS = 2.0
"""So much more than ANSWER_SDS is expected of what answers 39 times in 40."""
FORESEEN_SDS = 3.0
"""All features of another film foresee held-out TRs by -2.4 to 2.2 standard deviations, of the own film by 7 to 11."""
LEAST_RESPONSIVE = 0.1
"""Of the voxels: one in a hundred exceeds the 99th percentile of chance by luck, so of a tenth at most one in ten does.
With fewer, voxels that were chosen because they agree seem to share what they do not."""
LEAST_SHARED = 0.5
"""The part of their mean response that brains must share before it counts that they share it with no film."""
MOST_UNSEEN = 0.5
"""A film is another one when so much of what the brains share would have been seen: their own explains 40 to 56 % of it
in the demo's studies."""
MAX_DISAGREEMENT_TRS = 2
STRETCHED_SDS = 8.0
"""As many speeds and orders are tried, a film read otherwise must fit this well, and clearly better than as it is."""
BETTER = 0.75
"""The largest share of that fit which the film may have at its own speed."""
LEAST_DRIFT_TRS = 3.0


class Misalignment(msgspec.Struct, frozen=True, kw_only=True):
    """Film and brain out of step. kind: shifted by an offset, stretched, in another order; early, which training
    survives; unrelated as far as can be told, which no answer proves."""

    kind: Literal["shifted", "stretched", "reordered", "early", "unrelated"]
    sentence: str
    action: str

    @property
    def stops(self) -> bool:
        """Is it certain enough, and grave enough, to keep a run from starting?"""
        return self.kind not in ("early", "unrelated")


def expected_trs(tr_s: float) -> tuple[int, int]:
    """The lags, first and last, by which a brain may follow its film."""
    low, high = PLAUSIBLE_LAG_S
    return math.ceil(low / tr_s - 0.5), math.floor(high / tr_s + 0.5)


def is_early(lag_trs: int, tr_s: float) -> bool:
    """Sooner than a response can come, but as if it had been shifted, or the features convolved, beforehand."""
    return PRE_SHIFTED_LAG_S / tr_s - 0.5 <= lag_trs < expected_trs(tr_s)[0]


def is_stretched(facts: AlignmentFacts) -> bool:
    """Do thirds that answer disagree, or does another speed of the film fit clearly better?"""
    own, other, lags = facts.whole.sds or 0.0, facts.speed_sds or 0.0, facts.speed_lags_trs
    answered = [third.lag_trs for third in facts.thirds if third.answers]
    if answered and max(answered) - min(answered) > MAX_DISAGREEMENT_TRS:
        return True
    return bool(other > STRETCHED_SDS and own < BETTER * other and max(lags) - min(lags) >= LEAST_DRIFT_TRS)


def misalignment(facts: AlignmentFacts, tr_s: float, offset_s: float) -> Misalignment | None:
    """What is wrong between film and brain; None where nothing is, or nothing can be told.

    offset_s: where the film was taken to stand as the scan began.
    """
    if is_stretched(facts):
        return _stretched(facts)
    if not facts.whole.answers:
        return _reordered(facts) or _unrelated(facts)
    lag, (low, high) = facts.whole.lag_trs, expected_trs(tr_s)
    if low <= lag <= high:
        return None
    right_s = offset_s + (round(DELAY_S / tr_s) - lag) * tr_s
    said = f"The brain follows the film by {lag} TRs ({lag * tr_s:g} s) where {low} to {high} are expected"
    if is_early(lag, tr_s):
        return Misalignment(
            kind="early",
            sentence=f"{said}, as if the fMRI had been shifted, or the features convolved, beforehand.",
            action=f"Set data.stimulus_offset_s to {right_s:g} (or to auto); do not convolve features beforehand.",
        )
    return Misalignment(
        kind="shifted",
        sentence=f"{said}: film and brain are out of step.",
        action=f"Set data.stimulus_offset_s to {right_s:g} (or to auto), and look at `giblet data lag NODE CONFIG`.",
    )


def alignment_line(facts: AlignmentFacts, tr_s: float) -> str:
    """What was measured, in words, whether or not it says anything."""
    low, high = expected_trs(tr_s)
    if not facts.whole.answers:
        return (
            f"film and brain: no answer; no lag within ±{facts.reach_trs} TRs stands {ANSWER_SDS:g} standard "
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
    """The brains share much, of which their film would have been seen to explain a part, and none is seen."""
    shared, unseen = facts.shared or 0.0, facts.least_part or math.inf
    knows = shared >= LEAST_SHARED and (facts.responsive_part or 0.0) >= LEAST_RESPONSIVE and unseen <= MOST_UNSEEN
    foreseen = math.inf if facts.foreseen_sds is None else facts.foreseen_sds
    if not knows or foreseen > FORESEEN_SDS or (facts.whole.sds or 0.0) > UNRELATED_SDS:
        return None
    return Misalignment(
        kind="unrelated",
        sentence=(
            f"The brains share {shared:.0%} of their mean response, and at no lag does the film explain any of it: "
            f"{unseen:.0%} would have been seen. All its features foresee held-out TRs no better than at other times "
            f"({foreseen:+.1f} standard deviations). It is another film, or in another order, or these voxels follow "
            "nothing that its features tell."
        ),
        action="See whether film, annotations and scans belong together, run by run: `giblet data check NODE CONFIG`.",
    )


def _stretched(facts: AlignmentFacts) -> Misalignment:
    answered = [third.lag_trs for third in facts.thirds if third.answers]
    apart = len(answered) == len(facts.thirds) and max(answered) - min(answered) > MAX_DISAGREEMENT_TRS
    played = 1 / (facts.speed or 1.0)
    lags = ", ".join(f"{lag:.0f}" for lag in (answered if apart else facts.speed_lags_trs))
    return Misalignment(
        kind="stretched",
        sentence=(
            f"The brain follows the film by {lags} TRs in the thirds of the training TRs: the two clocks drift apart"
            + ("." if apart else f", as a film does that is played at {played:.3f} times its speed.")
        ),
        action="Use the film as shown: crop it, never resample it to the scan; mind 24 against 25 frames a second.",
    )
