"""A learning rate that a log shows to be as good as 0 while its loss does not change; no plan is needed. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter, median_error, printed_places
from giblet_train.diagnosis.run_start import format_loss

FEWEST_EPOCHS = 5
NEVER_A_RATE = 1e-7
"""Highest rate of a whole log that no optimizer learns from."""
GONE = 1e-6
"""Rate, relative to the highest one, that is as good as 0."""
FADED = 1e-3
"""Rate, relative to the highest one, at which hardly anything is learnt."""
HIGH_RATE = 0.099
"""Rate, relative to the highest one, at which a training still learns; a tenth of it counts."""
FEWEST_WARMING = 10
IDLE_SHARE = 0.3
"""Share of the training, planned or seen, without a rate that no schedule is meant to have."""
FELL_BEFORE = 0.02
"""Relative decrease in the epochs before the rate vanished that shows that learning was not over."""
MOST_NOISE = 0.03
"""Uncertainty of a change, relative to the loss, at which nobody can say that it does not change."""
MOST_NOISE_WITHOUT_RATE = 0.1
"""The same after the rate has vanished, when it cannot change."""
WINDOW = 3
SUDDEN = 1.2
"""Last loss, relative to the median, from which a loss does not stay constant but rises at its end."""

Rates = Sequence[tuple[int, float]]


def vanished_rate(case: RunHistory) -> Finding | None:
    """Return the finding for a printed rate that is as good as 0: from the beginning, or long before the end."""
    rates = _rates(case)
    if len(rates) < FEWEST_EPOCHS or case.stopped_early:
        return None
    highest = max(rate for _, rate in rates)
    if highest < NEVER_A_RATE:
        return _never_a_rate(case, rates, highest)
    return _decayed(case, rates, highest) or _still_warming(case, rates)


def _rates(case: RunHistory) -> list[tuple[int, float]]:
    """Return (epoch, rate) of each epoch whose rate is known; 0 in a record without its log means unknown."""
    if case.log is not None:
        return [(row.epoch, row.lr) for row in case.log.rows if row.lr is not None and math.isfinite(row.lr)]
    return [(e.epoch, e.lr) for e in case.epochs] if any(e.lr for e in case.epochs) else []


def _unit(case: RunHistory) -> str:
    """Return what the rates are counted in: `case.course_unit`, unless only the course is in blocks."""
    return case.course_unit if case.log is not None and case.log.is_blocks else "epoch"


def _planned(case: RunHistory) -> int:
    """Return the planned number of epochs; 0 if it is unknown, or blocks of steps are counted instead."""
    return case.log.n_epochs if case.log is not None and not case.log.is_blocks else 0


def _never_a_rate(case: RunHistory, rates: Rates, highest: float) -> Finding | None:
    totals = [total for _, total in case.train_totals]
    if len(totals) < FEWEST_EPOCHS or not _is_constant(totals, case.watch.flat_change):
        return None
    rounded_rate = case.log.rounded_rate if case.log is not None and not highest else ""
    value = f"printed as {rounded_rate or 0}" if not highest else f"{highest:.1e} at most"
    doubt = (
        f" A rate below {10.0 ** (1 - len(rounded_rate[1:])) / 2:.0e} is rounded to that too." if rounded_rate else ""
    )
    return _finding(
        TENTATIVE if rounded_rate else 0.85,
        f"The learning rate is {value} in all {len(rates)} {_unit(case)}s, and the loss stays at "
        f"{format_loss(totals[-1])}.{doubt}",
        {"reason": "never_reaches_peak", "highest_observed": highest, "epochs": len(rates)},
        "Set a learning rate, and check that the warm-up is counted in steps of this training.",
    )


def _decayed(case: RunHistory, rates: Rates, highest: float) -> Finding | None:
    """Report a rate that reached 0 long before the end, so that the loss has not changed since."""
    is_shown = _shows_small_rates(rates) or _is_exact(case.log.zero_rate if case.log is not None else "", rates)
    if not is_shown and not rates[-1][1]:
        return None
    gone_since = _since(rates, GONE * highest) if is_shown else None
    since = gone_since if gone_since is not None else _since(rates, FADED * highest)
    if since is None:
        return None
    n_idle = sum(epoch >= since for epoch, _ in rates)
    planned = max(_planned(case), rates[-1][0])
    idle_share = (planned - since + 1) / max(1, planned - rates[0][0] + 1)
    after = [total for epoch, total in case.train_totals if epoch >= since]
    before = [total for epoch, total in case.train_totals if epoch < since]
    most_noise = MOST_NOISE if gone_since is None else MOST_NOISE_WITHOUT_RATE
    if n_idle < FEWEST_EPOCHS or idle_share < IDLE_SHARE or not _is_constant(after, case.watch.flat_change, most_noise):
        return None
    is_cut_short = _was_falling(before)
    if gone_since is None and not is_cut_short:
        return None
    is_effect = not is_cut_short and _had_converged(case, rates, highest)
    last = rates[-1][1]
    return _finding(
        TENTATIVE if is_effect else 0.8 if gone_since is not None else 0.6,
        f"The learning rate is {f'{last:.1e}' if last else '0'} since {_unit(case)} {since} of {planned} (its highest "
        f"was {highest:.1e}), and the loss has stayed at {format_loss(median(after))}"
        f"{', although it was still falling before' if is_cut_short else ''}"
        f"{'; it was as constant before, so the rate may have been lowered because of that' if is_effect else ''}.",
        {"reason": "ended_early", "since_epoch": since, "observed": last, "highest_observed": highest},
        "Make the schedule as long as the training: it counts optimizer steps, or epochs, and not the other.",
    )


def _had_converged(case: RunHistory, rates: Rates, highest: float) -> bool:
    """Return True if the loss was constant while the rate was high, as before a rate is reduced on a plateau."""
    low_since = _since(rates, HIGH_RATE * highest)
    before = [total for epoch, total in case.train_totals if low_since is not None and epoch < low_since]
    return len(before) >= 2 * WINDOW and not _was_falling(before)


def _still_warming(case: RunHistory, rates: Rates) -> Finding | None:
    """Report a warm-up that has not ended at the end of a log whose loss does not change."""
    totals = [total for _, total in case.train_totals]
    rises = all(b > a for (_, a), (_, b) in pairwise(rates))
    is_late = rates[-1][0] >= IDLE_SHARE * _planned(case)
    is_sudden = bool(totals) and max(totals[-WINDOW:]) > SUDDEN * median(totals)
    if (
        len(rates) < FEWEST_WARMING
        or not rises
        or not is_late
        or is_sudden
        or not _is_constant(totals, case.watch.flat_change)
    ):
        return None
    return _finding(
        0.7,
        f"The learning rate is still warming up at {_unit(case)} {rates[-1][0]}, where it is {rates[-1][1]:.1e}, and "
        f"the loss stays at {format_loss(totals[-1])}.",
        {"reason": "never_reaches_peak", "observed": rates[-1][1], "epoch": rates[-1][0]},
        "Shorten the warm-up: 5 % of all steps is plenty.",
    )


def _finding(confidence: float, sentence: str, evidence: dict[str, object], action: str) -> Finding:
    return Finding(confidence=confidence, sentence=sentence, evidence=evidence, action=action)


def _since(rates: Rates, limit: float) -> int | None:
    """Return the first epoch from which no rate is above a limit; None if the last one is."""
    above = [i for i, (_, rate) in enumerate(rates) if rate > limit]
    first = above[-1] + 1 if above else 0
    return rates[first][0] if first < len(rates) else None


def _shows_small_rates(rates: Rates) -> bool:
    """Return True if a printed 0 means 0: `0.0000` next to `0.0003` is only a rate of which no digit is left."""
    positive = [rate for _, rate in rates if rate]
    return bool(10.0 ** -printed_places(positive) <= FADED * max(positive))


def _is_exact(zero: str, rates: Rates) -> bool:
    """Return True if a 0 of this notation means 0; behind several rates with few digits, `round` may have made it."""
    return "e" in zero.lower() or (bool(zero) and len({rate for _, rate in rates if rate}) == 1)


def _is_constant(values: Sequence[float], change: float, most_noise: float = MOST_NOISE) -> bool:
    """Return True if the last third of a course is neither below nor above its first, and noise hides neither."""
    if not values:
        return False
    third = max(1, len(values) // 3)
    first, last = median(values[:third]), median(values[-third:])
    noise = 3 * math.sqrt(2) * median_error(jitter(values), third)
    return noise <= most_noise * abs(first) and abs(first - last) <= max(2 * change * abs(first), noise)


def _was_falling(values: Sequence[float]) -> bool:
    """Return True if a course was still falling at its end."""
    if len(values) < 2 * WINDOW:
        return False
    before, last = median(values[-2 * WINDOW : -WINDOW]), median(values[-WINDOW:])
    return before - last > max(FELL_BEFORE * abs(before), 3 * math.sqrt(2) * median_error(jitter(values), WINDOW))
