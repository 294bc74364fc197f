"""Rules for the training curve: not finite, diverging, frozen, flat, stopped short, always clipped, rounded away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise, takewhile
from statistics import fmean, linear_regression, median, stdev

from giblet_train.diagnosis.rules.adversarial import value_divergence
from giblet_train.diagnosis.rules.case import Finding, RunHistory, median_or_none
from giblet_train.diagnosis.rules.curve_fit import ExponentialFit, Points, best_bent, from_steepest, smooth_error
from giblet_train.diagnosis.rules.held_out import R_DOUBT, SIGNED_SCALE
from giblet_train.diagnosis.rules.log_evidence import collapse_finding, named_cause
from giblet_train.diagnosis.rules.metric_course import (
    has_learnt,
    metric_is_flat,
    metric_is_nan,
    metrics_contradict_loss,
)
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter, median_error, printed_places, smoothed
from giblet_train.diagnosis.rules.registry import FAULT_STEP, SHORT_WARMUP, WARN_ONLY, fault, rule
from giblet_train.diagnosis.run_start import ELSEWHERE, LEARNT_BEYOND, format_loss, format_losses, initial_total
from giblet_train.schema.records import StepMetric

BLOCK_STEPS = 10
RECENT_BLOCKS = 6
"""Blocks of steps (or epochs) in which a rise must last to be called divergence."""
BEYOND_OVERFITTING = 10.0
"""Multiple of its first value from which a validation loss, if it alone is printed, diverges and does not overfit."""
FEWEST_NOISE = 4
"""Values from which their noise is known."""
RISE_SHARE = 0.3
"""Share of what was learnt that a rise must undo: a low loss may rise by half and still be low."""
UNDONE = 0.6
"""Share of what was learnt whose loss is divergence, however high the loss was: one of 6.9 cannot rise by half."""
MUCH_LEARNT = 0.2
"""What was learnt, relative to the best loss, from which that share is a scale."""
RISE_SDS = 6.0
"""Rise in standard deviations of the curve's own noise."""
STEADY_JITTER = 0.1
"""Noise of a loss, relative to its fall since a jump, below which it falls steadily."""
FEW_ELSEWHERE = 0.5
"""Rise above the first loss, relative to it, that shows divergence although few epochs are seen."""
NO_GRADIENT = 1e-12
"""Gradient norm below which there is no gradient."""
VANISHED = 1e-6
"""The same, relative to the largest norm of the run."""
EXACT_DIGITS = 6
EXACT_EPOCHS = 5
SAME_SHARE = 0.4
"""Digits, epochs and share of all validations from which a repeated loss shows that the weights do not move."""
DEAD_SHARE = 1e-6
"""Share of the gradient below which a component receives none."""
FEWEST_VALIDATIONS = 3
FEWEST_CURVE_EPOCHS = 6
LEARNT = 0.01
"""Relative decrease that shows that something was learnt before learning stopped."""
CLEARLY_LEARNT = 0.1
"""The same for a training that may have converged since."""
FEW_DIGITS = 100.0
"""Norm in units of its last printed digit below which its next value may be rounded to 0."""
HIGH_RATE = 0.5
BEND = 15.0
"""How much better, in F, a curve with a knee must fit than every smooth one."""
SHARP_BEND = 300.0
"""The same for a knee that no healthy curve shows, so that its rate need not be known: those have at most 170."""
WITHOUT_RATE = 0.7
"""Confidence in such a knee."""
GRID_MISFIT = 0.003
"""Misfit of a fit from a grid of rates, relative to the height of the curve."""
STILL_FALLS = 0.5
"""Share of the fall expected after a knee that shows, in this curve or in training, that learning continues."""
CURVE_EPOCHS = 60
"""Most points of a curve that are fitted."""
SETTLED_EPOCHS = 3
LOW_LOSS = 0.2
"""Level, relative to what was learnt, below which a loss is too low to be a scale of its own."""
LONG_PLATEAU = 0.6
"""Fraction of the planned epochs after which a plateau is no longer thought to end by itself."""
SAME_EPOCHS = 3
WHOLE_COURSE = 0.2
"""Smallest relative decrease that a whole plan is for."""
FLAT_CERTAIN = 0.3
"""Fraction of the plan after which a flat loss is no longer thought to be a slow beginning."""
OWED_EPOCHS = 20
"""Epochs up to which a loss owes no more than twice watch.flat_change; beyond, the debt grows with their root."""
AT_ONCE = 0.05
"""Relative decrease in the first epochs after which a flat loss may also be one that has converged."""
EARLY_FALL_SDS = 6.0
"""Decrease in the first epochs, in standard deviations of the noise, that shows a model that may have converged."""
PREDICTS = 0.1
"""Validation correlation that no model reaches by chance on average over voxels."""
MINIMAL, NEARLY_MINIMAL = -1.0, -0.995
"""Minimum of a negative cosine similarity, and a loss that no healthy training has after its first epochs."""
MINIMAL_DOUBT, ROUNDING = 0.002, 1e-4
"""Distance of a collapsed loss from that minimum, and by how much rounding may exceed it."""
MOST_DOUBT = 0.01
"""Largest relative error of the level of a log's loss at which its decrease is judged with certainty."""
UNKNOWN_DOUBT = 0.02
"""Relative error of the level from which the decrease is not judged at all."""


@rule(
    group="numbers",
    explains=(
        "curve",
        "crashed",
        "diverging",
        "frozen_parameters",
    ),
    level="error",
    fault=fault("nan", "the audio's targets turn into NaN", FAULT_STEP),
)
def nan(case: RunHistory) -> Finding | None:
    """Report a loss or gradient that is not finite, with its first component and step."""
    measured = False
    for step in case.steps:
        bad = [c for c, v in step.loss.items() if v is None]
        measured = measured or step.gradient_norm is not None
        if bad or step.total is None or (measured and step.gradient_norm is None):
            return _not_finite(", ".join(bad) if 0 < len(bad) < len(step.loss) else _whole(bad), step.step, None)
    bad_epoch = next((e for e in case.epochs if e.train.total is None), None)
    message = named_cause(case, "nan")
    return (
        _not_finite("the training loss", None, bad_epoch.epoch, message[0] if message else "")
        if bad_epoch
        else (collapse_finding(case) or metric_is_nan(case))
    )


def _whole(bad: Sequence[str]) -> str:
    return "every component" if bad else "the gradient"


def _not_finite(what: str, step: int | None, epoch: int | None, message: str = "") -> Finding:
    where = f"at step {step}" if step is not None else f"in epoch {epoch}"
    quotation = f": {message.rstrip('.')}" if message else ""
    return Finding(
        confidence=0.99,
        sentence=f"{what[:1].upper()}{what[1:]} became nan or infinite {where}{quotation}.",
        evidence={"component": what, "step": step, "epoch": epoch},
        action="Resume from the last good checkpoint with a lower learning_rate; look at that component's data.",
    )


@rule(
    group="numbers",
    explains=(
        "curve",
        "crashed",
    ),
    level="error",
    fault=fault("diverging", "from step 100 on every step makes the weights 5 % larger", 100, **SHORT_WARMUP),
)
def diverging(case: RunHistory) -> Finding | None:
    """Report a training loss that stays far above its best, measured by its noise and by what was learnt before."""
    blocks, unit = _blocks(case.steps), "step"
    if len(blocks) < 3:
        blocks, unit = ([] if case.steps else case.course), case.course_unit
    if len(blocks) < 3:
        return value_divergence(case)
    values = [value for _, value in blocks]
    best_index = min(range(len(values) - 1), key=values.__getitem__)
    (since, best), start = blocks[best_index], values[0]
    noise, decrease = RISE_SDS * _noise(case, values, best_index), start - best
    factor = (case.watch.diverging_factor - 1) * abs(best)
    if not case.steps and decrease > MUCH_LEARNT * abs(best):  # a few blocks of steps may be a spike
        factor = min(factor, UNDONE * decrease)
    rise = max(factor, RISE_SHARE * decrease, noise)
    if rise <= 0:
        return None
    high = [value > best + rise for value in values[best_index + 1 :][-RECENT_BLOCKS:]]
    if sum(high) < (2 if len(high) <= 3 else 3) or (len(high) <= 3 and not high[-1]):
        return None
    is_over = sum(high) >= 4 and not _falls_again(values[best_index + 1 :], best)
    # The noise of a few epochs is not known.
    is_few = not case.steps and len(values) < FEWEST_CURVE_EPOCHS
    elsewhere = FEW_ELSEWHERE if is_few else ELSEWHERE
    is_sustained = is_over or min(values[-2:]) > start + max(elsewhere * abs(start), noise)
    now, last = blocks[-1]
    if case.log is not None and case.log.validation_only and last < BEYOND_OVERFITTING * abs(start):
        return None
    return Finding(
        confidence=0.96 if is_sustained else 0.45,
        sentence=(
            f"The training loss rose from {format_loss(best)} at {unit} {since} to {format_loss(last)} at {unit} "
            f"{now}{f': {last / best:.3g} times its best' if best > 0 else ''}."
        ),
        evidence={
            "best": best,
            "last": last,
            "ratio": last / best if best else None,
            "gradient_norm": median_or_none([s.gradient_norm for s in case.steps[-BLOCK_STEPS:]]),
        },
        action=(
            "Stop it; resume from the best checkpoint with a third of the learning_rate."
            if is_sustained
            else "Wait: it may be a spike that recovers. If it lasts, resume with a third of the learning_rate."
        ),
    )


def _falls_again(after: Sequence[float], best: float) -> bool:
    """Return True if a loss falls steadily since it jumped, as after a harder task or other data have begun."""
    peak = max(range(len(after)), key=after.__getitem__)
    since = after[peak:]
    fall = since[0] - since[-1]
    is_steady = jitter(since) < STEADY_JITTER * fall and max(since[-RECENT_BLOCKS // 2 :]) < median(since)
    return len(since) >= RECENT_BLOCKS and is_steady and fall >= RISE_SHARE * (since[0] - best)


def _noise(case: RunHistory, values: Sequence[float], best_index: int) -> float:
    """Return the noise of a course before its best; of blocks of a log that of all, because their best may be early.

    Blocks that stay above all values until the best have left their noise: an oscillation that grows is none.
    """
    until_best = values[: best_index + 1]
    has_left = len(until_best) >= FEWEST_NOISE and min(values[-RECENT_BLOCKS:]) > max(until_best)
    is_block = case.course_unit == "block" and not has_left
    return max(jitter(until_best), jitter(values)) if is_block else jitter(until_best)


def _blocks(steps: Sequence[StepMetric]) -> list[tuple[int, float]]:
    """Return (first step, median total) of consecutive blocks of steps that end with the newest one."""
    first = len(steps) % BLOCK_STEPS
    blocks = []
    for i in range(first, len(steps), BLOCK_STEPS):
        block = steps[i : i + BLOCK_STEPS]
        value = median_or_none([s.total for s in block])
        if value is not None:
            blocks.append((block[0].step, value))
    return blocks


@rule(
    group="numbers",
    explains=(
        "curve",
        "rounding",
    ),
    level="error",
    fault=fault("frozen", "no gradient reaches any weight", FAULT_STEP),
)
def frozen_parameters(case: RunHistory) -> Finding | None:
    """Report that no gradient arrives: none at all, or none from one component."""
    if not case.steps:
        return _no_gradient_in_log(case) or _same_validation(case)
    limit = max(NO_GRADIENT, VANISHED * max((s.gradient_norm or 0.0 for s in case.steps), default=0.0))
    steps = list(takewhile(lambda s: s.gradient_norm is not None and s.gradient_norm < limit, reversed(case.steps)))
    if len(steps) >= case.watch.frozen_steps:
        first, norm = steps[-1].step, max(s.gradient_norm or 0.0 for s in steps)
        return Finding(
            confidence=0.98,
            sentence=f"The gradient has been {norm:.2g} for {len(steps)} steps, since step {first}: nothing is learnt.",
            evidence={"component": None, "since_step": first, "steps": len(steps), "gradient_norm": norm},
            action="Look for frozen or detached parameters, and for a loss that does not depend on the weights.",
        )
    shares = [s.gradient_share for s in case.steps if s.gradient_share][-3:]
    dead = [c for c in case.components if len(shares) == 3 and all(_is_dead(share.get(c)) for share in shares)]
    if not dead:
        return None
    largest = max(share.get(dead[0]) or 0.0 for share in shares)
    return Finding(
        confidence=0.9,
        sentence=(
            f"No gradient comes from {dead[0]}: its share was {largest:.1g} at most at each of the last {len(shares)} "
            "measurements."
        ),
        evidence={"component": dead[0], "share": largest, "measured": len(shares)},
        action=f"Look for a detached tensor between the bottleneck and the loss of {dead[0]}.",
    )


def _no_gradient_in_log(case: RunHistory) -> Finding | None:
    """Report a gradient norm that a log prints as 0, or far below its largest, in all of its last epochs."""
    rows = case.log.rows if case.log is not None else ()
    norms = [(row.epoch, row.grad_norm) for row in rows if row.grad_norm is not None and math.isfinite(row.grad_norm)]
    limit = max(NO_GRADIENT, VANISHED * max((norm for _, norm in norms), default=0.0))
    zeros = list(takewhile(lambda item: item[1] <= limit, reversed(norms)))
    if len(zeros) < EXACT_EPOCHS or _learns_since(case, zeros[-1][0]):
        return None
    if _may_be_rounded([norm for _, norm in norms[: -len(zeros)]]) and _had_learnt(case, zeros[-1][0]):
        return None
    since, norm = zeros[-1][0], max(norm for _, norm in zeros)
    return Finding(
        confidence=0.9,
        sentence=f"The gradient norm is {norm:.2g} since {case.course_unit} {since}: nothing is learnt.",
        evidence={"component": None, "since_epoch": since, "epochs": len(zeros), "gradient_norm": norm},
        action="Look for frozen, detached or dead units (ReLU), and for a loss that does not depend on the weights.",
    )


def _may_be_rounded(norms: Sequence[float]) -> bool:
    """Return True if a norm of 0 may be a small one behind these norms, of which hardly a printed digit was left."""
    positive = [norm for norm in norms if norm]
    return len(set(positive)) > 1 and min(positive[-SETTLED_EPOCHS:]) < FEW_DIGITS * 10.0 ** -printed_places(positive)


def _had_learnt(case: RunHistory, since: int) -> bool:
    """Return True if the training loss had clearly fallen before an epoch."""
    before = [value for epoch, value in case.train_totals if epoch < since]
    return bool(before) and before[0] - before[-1] > CLEARLY_LEARNT * abs(before[0])


def _learns_since(case: RunHistory, since: int) -> bool:
    """Return True if the training loss falls after an epoch, or has fallen to a small part of its start."""
    totals = case.train_totals
    values = [value for epoch, value in totals if epoch >= since]
    third = max(1, len(values) // 3)
    before, after = median(values[:third]), median(values[-third:])
    return before - after > LEARNT * abs(before) or abs(after) < LOW_LOSS * abs(totals[0][1])


def _same_validation(case: RunHistory) -> Finding | None:
    """Report weights that do not move, from a validation loss that a log repeats to the last of many digits."""
    validations = [v for _, v in case.validation_totals]
    same = list(takewhile(lambda value: value == validations[-1], reversed(validations)))
    since = case.validation_totals[-len(same)][0] if same else 0
    totals = [v for epoch, v in case.train_totals if epoch >= since]
    correlations = {e.fmri_r for e in case.epochs[-len(same) :] if e.fmri_r is not None}
    is_exact = (
        len(correlations) < 2
        and bool(validations)
        and len(f"{validations[-1]:.9g}".replace(".", "").lstrip("-0")) >= EXACT_DIGITS
    )
    if not is_exact or len(same) < max(EXACT_EPOCHS, SAME_SHARE * len(validations)) or len(set(totals)) < 2:
        return None
    if _is_carried_forward(validations[: -len(same)]) or _still_falls(totals, case.watch.flat_change):
        return None
    return Finding(
        confidence=0.85,
        sentence=(
            f"The validation loss is exactly {validations[-1]:.9g} in each of the last {len(same)} epochs, while the "
            "training loss changes with its batches: the weights do not move."
        ),
        evidence={"validation": validations[-1], "epochs": len(same)},
        action="Check that the optimizer has the parameters of this model and takes steps, and that its rate is not 0.",
    )


def _is_carried_forward(validations: Sequence[float]) -> bool:
    """Return True if most values come in runs, as in a log that repeats the last validation until the next one."""
    n_runs = sum(1 for _ in groupby(validations))
    return 0 < 2 * n_runs <= len(validations)


def _is_dead(share: float | None) -> bool:
    return share is not None and share < DEAD_SHARE


@rule(
    group="curve",
    explains=(
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault(
        "flat", "the learning rate is a ten-thousandth of what learns", **SHORT_WARMUP, **WARN_ONLY, learning_rate=1e-7
    ),
)
def flat(case: RunHistory) -> Finding | None:
    """Report a loss that is where it began, after enough steps at a real learning rate."""
    if case.start_total is None or not case.steps:
        return metric_is_flat(case) if has_learnt(case.log) else _flat_epochs(case) or metric_is_flat(case)
    base = case.plan.learning_rate if case.plan else max(s.lr for s in case.steps)
    worth = sum(s.lr for s in case.steps) / base if base else 0.0
    validations = [v for _, v in case.validation_totals]
    warm = case.plan is None or case.steps[-1].step >= case.plan.warmup_steps
    if not warm or worth < case.watch.flat_steps or (validations and len(validations) < FEWEST_VALIDATIONS):
        return None
    totals = [s.total for s in case.steps if s.total is not None]
    last = totals[-max(case.watch.recent_steps, len(totals) // 4) :]
    start = initial_total(case.steps, case.start_total)
    if len(last) < 2 or not start:
        return None
    doubt = 2 * stdev(last) * _correlation_factor(last) / math.sqrt(len(last)) / start
    fall = 1 - fmean(last) / start
    validation_fall = _validation_fall(validations, start)
    # More steps owe more; a long plan may begin slowly, and owes no more than its share of the whole course.
    progress = case.steps[-1].step / case.plan.total_steps if case.plan else 1.0
    expected_fall = min(case.watch.flat_change * math.sqrt(worth / case.watch.flat_steps), WHOLE_COURSE * progress)
    nothing_beyond_start = start < case.start_total and fall <= LEARNT_BEYOND
    if (fall > expected_fall + doubt or validation_fall > expected_fall) and not (
        nothing_beyond_start and validation_fall <= expected_fall
    ):
        return None
    return _flat(
        f"The mean training loss of steps {case.steps[-1].step + 2 - len(last)} to {case.steps[-1].step + 1} is "
        f"{format_loss(fmean(last))}, {_change(fall)} its start {format_loss(start)} (± {doubt:.2%})",
        {"fall": fall, "doubt": doubt, "steps": len(case.steps), "validation_fall": validation_fall},
        certain=progress >= FLAT_CERTAIN,
    )


def _correlation_factor(values: Sequence[float]) -> float:
    """Return how much correlation of successive values widens the error of their mean, for AR(1) noise."""
    mean = fmean(values)
    variance = sum((v - mean) ** 2 for v in values)
    product = sum((a - mean) * (b - mean) for a, b in pairwise(values))
    correlation = min(0.9, max(0.0, product / variance)) if variance else 0.0
    return math.sqrt((1 + correlation) / (1 - correlation))


def _change(fall: float) -> str:
    """Describe a relative decrease from a value."""
    if abs(fall) < 5e-5:
        return "within 0.01% of"
    return f"{fall:.2%} below" if fall >= 0 else f"{-fall:.2%} above"


def _validation_fall(validations: Sequence[float], start: float) -> float:
    """Return the relative decrease of the last validations; 0 while there are too few."""
    if len(validations) < FEWEST_VALIDATIONS or not validations[0]:
        return 0.0
    # A held-out block may have another mean than the training TRs; then its own first value counts.
    first = start if abs(validations[0] / start - 1) < ELSEWHERE else validations[0]
    return 1 - fmean(validations[-FEWEST_VALIDATIONS:]) / first


def _flat_epochs(case: RunHistory) -> Finding | None:
    """Report a flat loss from the epochs alone, as in a log, if its beginning was seen."""
    course = case.course
    totals = [v for _, v in course]
    if len(totals) < case.watch.flat_epochs or not case.begins_at_start:
        return None
    n = max(case.watch.flat_epochs, len(totals) // 3)
    n_first = max(1, n // 2)
    first, last = median(totals[:n_first]), median(totals[-n:])
    scale = abs(first) if min(totals) > 0 else max(SIGNED_SCALE, abs(first))
    if not scale:
        return None
    fall = (first - last) / scale
    doubt = 2 * median_error(jitter(totals), n) * math.sqrt(2) / scale
    lowest = (first - min(smoothed(totals, 3))) / scale
    nothing = 2 * case.watch.flat_change
    # More epochs owe more: a drift that is nothing in 20 epochs is still next to nothing in 40.
    expected_fall = nothing * max(1.0, math.sqrt(len(totals) / OWED_EPOCHS))
    if (
        fall > expected_fall
        or lowest > expected_fall + 3 * doubt
        or doubt > UNKNOWN_DOUBT
        or _still_falls(totals[-n:], expected_fall / 2)
    ):
        return None
    validation_learns = _validation_learns([v for _, v in case.validation_totals], expected_fall)
    if fall > nothing and validation_learns:
        return None
    at_once = (totals[0] - last) / scale
    # Noise of fMRI hides most of its variance: a model that predicts it well lowers the loss by a few per cent.
    r = _final_correlation(case)
    # With no correlation, the first epochs have only found the mean.
    may_predict = at_once > max(nothing, EARLY_FALL_SDS * jitter(totals) / scale) and (r is None or r > R_DOUBT)
    fell_at_once = at_once > AT_ONCE or may_predict
    if fell_at_once and r is not None and r >= PREDICTS:
        return None
    epochs, unit = [epoch for epoch, _ in course], case.course_unit
    last_text, first_text = format_losses(last, first)
    facts = (
        f"The median training loss of {unit}s {epochs[-n]} to {epochs[-1]} is {last_text}, {_change(fall)} that of "
        f"{f'{unit}s {epochs[0]} to {epochs[n_first - 1]}' if n_first > 1 else f'{unit} {epochs[0]}'} ({first_text}"
        f"{f'; noise: ± {doubt:.1%}' if doubt > MOST_DOUBT else ''})"
    )
    return _flat(
        facts,
        {"fall": fall, "epochs": len(totals), "doubt": doubt},
        certain=-0.05 < fall <= nothing and not fell_at_once and doubt <= MOST_DOUBT and not validation_learns,
        amount="after the first epochs hardly anything"
        if fell_at_once
        else "nothing"
        if fall <= nothing
        else "hardly anything",
    )


def _final_correlation(case: RunHistory) -> float | None:
    """Return the correlation of predicted and measured responses at the end; None while there are too few."""
    correlations = [e.fmri_r for e in case.epochs if e.fmri_r is not None]
    return median(correlations[-FEWEST_VALIDATIONS:]) if len(correlations) >= FEWEST_VALIDATIONS else None


def _validation_learns(validations: Sequence[float], expected_fall: float) -> bool:
    """Return True if validation fell by more than a share of its start and more than its own noise."""
    if len(validations) < FEWEST_CURVE_EPOCHS:
        return False
    n = len(validations) // 3
    before, after = median(validations[:n]), median(validations[-n:])
    return before - after > expected_fall * abs(before) + 3 * median_error(jitter(validations), n)


def _still_falls(values: Sequence[float], change: float) -> bool:
    """Return True if the second half of the values is clearly below the first half."""
    half = len(values) // 2
    before, after = median(values[:half]), median(values[half:])
    return before - after > max(change * abs(before), 3 * math.sqrt(2) * median_error(jitter(values), half))


def _flat(facts: str, evidence: dict[str, float | int | None], *, certain: bool, amount: str = "nothing") -> Finding:
    return Finding(
        confidence=0.85 if certain else TENTATIVE,
        sentence=f"{facts}: {amount} is learnt.",
        evidence=dict(evidence),
        action="Overfit one batch first; if that works, raise learning_rate, if not, look at targets and gradients.",
    )


@rule(
    group="curve",
    explains=("criterion_unreachable",),
    fault=fault(
        "plateau",
        "from step 140 on the weights are reset after every step",
        140,
        **SHORT_WARMUP,
        scheduler_type="none",
        num_epochs=60,
    ),
)
def plateau(case: RunHistory) -> Finding | None:
    """Report learning that stopped from one epoch to the next, while the rate was high and the curve still falling.

    Validation has the steadier curve, but averaged weights smooth its knee; training is therefore tested too.
    """
    if case.stopped_early:
        return None
    curves = (case.validation_totals, case.train_totals if case.steps or not case.validation_totals else [])
    findings = (_stopped_short(case, totals) for totals in curves if totals)
    return next((finding for finding in findings if finding is not None), None)


def _stopped_short(case: RunHistory, source: Sequence[tuple[int, float]]) -> Finding | None:
    points = _condensed(from_steepest([(float(e), v) for e, v in source]))
    n_settled = SETTLED_EPOCHS if case.steps else case.watch.flat_epochs
    if len(points) < FEWEST_CURVE_EPOCHS - SETTLED_EPOCHS + n_settled or not _rate_held(case, points[-n_settled][0]):
        return None
    knees = [knee for a, b in pairwise(x for x, _ in points[1 : -n_settled + 1]) for knee in ((a + b) / 2, b)]
    knee_fit, better = _knee(points, knees)
    now = knee_fit.at(points[-1][0])
    predicted = knee_fit.floor + knee_fit.height * math.exp(-knee_fit.rate * points[-1][0])
    if all(value >= 0 for _, value in points):
        predicted = max(predicted, 0.0)  # a loss that was never negative has no further to fall
    missing = now - predicted
    decrease = points[0][1] - now
    scale = max(abs(now), LOW_LOSS * decrease)
    if (
        scale <= 0
        or better < BEND
        or missing < case.watch.plateau_fall * scale
        or decrease < LEARNT * abs(points[0][1])
    ):
        return None
    if not _rate_held(case, knee_fit.knee) or _improves_again(source, knee_fit.knee):
        return None
    if case.log is not None and not case.log.is_blocks and has_learnt(case.log, knee_fit.knee):
        return None
    training = [(float(e), v) for e, v in case.train_totals]
    if max(_fall_after(points, knee_fit.knee), _fall_after(training, knee_fit.knee)) >= STILL_FALLS * missing:
        return None
    lasts = points[-1][0] - knee_fit.knee >= LONG_PLATEAU * (case.num_epochs or CURVE_EPOCHS)
    # Without its rate, and on averages of epochs, a curve that has converged looks much like one that was stopped,
    # unless it bends from one epoch to the next.
    rate_is_known = any(e.lr for e in case.epochs)
    is_certain = lasts and (bool(case.steps) or (rate_is_known and len(source) <= CURVE_EPOCHS))
    is_likely = lasts and better >= SHARP_BEND
    return Finding(
        confidence=0.85 if is_certain else WITHOUT_RATE if is_likely else TENTATIVE,
        sentence=(
            f"Learning stopped at epoch {knee_fit.knee:g}: the loss has stayed at {format_loss(now)} since, although "
            f"its own course would have led {missing / scale:.1%} lower"
            f"{', and the rate is still high' if rate_is_known else ''}."
        ),
        evidence={"knee_epoch": knee_fit.knee, "level": now, "missing_fall": missing / scale, "better_f": better},
        action=(
            "Lower the rate (scheduler_type: cosine), or look at what changed at that epoch."
            if rate_is_known
            else "Look at what changed at that epoch. If the rate was lowered then, it has converged."
        ),
    )


def _condensed(points: Points) -> Points:
    """Average neighbours of a long course, so that a knee far back is seen as well."""
    n = -(-len(points) // CURVE_EPOCHS)
    groups = [points[i : i + n] for i in range(len(points) % n, len(points), n)]
    return points if n == 1 else [(fmean(x for x, _ in group), fmean(y for _, y in group)) for group in groups]


def _knee(points: Points, knees: Sequence[float]) -> tuple[ExponentialFit, float]:
    """Return the best curve with a knee, and how much better (in F) it fits than every smooth curve.

    Smooth curves are exponentials, power laws and sums of two exponentials. The fits come from coarse grids, so both
    errors include the misfit of a grid.
    """
    knee_fit = best_bent(points, knees)
    misfit = len(points) * (GRID_MISFIT * abs(points[0][1] - points[-1][1])) ** 2
    freedom = max(1, len(points) - 4)
    better = (smooth_error(points) - knee_fit.error) / max((knee_fit.error + misfit) / freedom, 1e-18)
    return knee_fit, better


def _fall_after(points: Points, knee: float) -> float:
    """Return how far the line through the points after a knee falls; 0 for fewer than three points."""
    after = [(x, y) for x, y in points if x > knee]
    if len(after) < 3:
        return 0.0
    line = linear_regression([x for x, _ in after], [y for _, y in after])
    return -line.slope * (after[-1][0] - knee)


def _improves_again(source: Sequence[tuple[int, float]], knee: float) -> bool:
    """Return True if the loss has left the plateau downwards."""
    after = [v for e, v in source if e > knee]
    if len(after) < 2 * SETTLED_EPOCHS:
        return False
    level, last = median(after[: len(after) // 2]), median(after[-SETTLED_EPOCHS:])
    return level - last > max(LEARNT * abs(level), 3 * median_error(jitter(after), SETTLED_EPOCHS))


def _rate_held(case: RunHistory, since_epoch: float) -> bool:
    """Return True if the rate was high and nearly constant since an epoch; else the schedule explains the curve."""
    rates = [e.lr for e in case.epochs if e.epoch >= since_epoch]
    base = case.plan.learning_rate if case.plan else max(e.lr for e in case.epochs)
    return min(rates) >= HIGH_RATE * max(base, max(rates))


@rule(
    group="curve",
    explains=(
        "flat",
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault(
        "clipping", "the gradient's limit is a ten-thousandth of its norm", **SHORT_WARMUP, gradient_clip_val=1e-4
    ),
)
def clipping_always(case: RunHistory) -> Finding | None:
    """Report that nearly every step is clipped by a large factor, so the limit sets the length of each step."""
    n = 2 * case.watch.recent_steps
    recent = case.steps[-n:]
    if len(recent) < n:
        return None
    share = sum(s.clipped for s in recent) / n
    norm = median([s.gradient_norm or 0.0 for s in recent])
    limit = case.config.gradient_clip_val if case.config else None
    factor = norm / limit if limit else norm
    if share < case.watch.clipping_share or factor < case.watch.clipping_factor:
        return None
    return Finding(
        confidence=0.85,
        sentence=(
            f"{share:.0%} of the last {n} steps were clipped, with a gradient {factor:.3g} times the limit: the limit "
            "sets the length of each step."
        ),
        evidence={"share": share, "gradient_norm": norm, "limit": limit, "steps": n},
        action="Raise gradient_clip_val above the usual norm, or find which component's loss is on too large a scale.",
    )


@rule(
    group="numbers",
    explains=("curve",),
    fault=fault(
        "rounding", "weights are kept in 8 bits, which is too coarse for the steps", **SHORT_WARMUP, learning_rate=1e-4
    ),
)
def rounding(case: RunHistory) -> Finding | None:
    """Report validation that repeats to the last digit while gradients arrive: rounding removes the updates."""
    validations = [v for _, v in case.validation_totals][-SAME_EPOCHS:]
    moving = [s for s in case.steps[-BLOCK_STEPS:] if (s.gradient_norm or 0.0) > 0.0 and s.lr > 0.0]
    if len(validations) < SAME_EPOCHS or len(set(validations)) > 1 or not moving:
        return None
    return Finding(
        confidence=0.93,
        sentence=(
            f"Validation was exactly {validations[-1]!r} {SAME_EPOCHS} times in a row while gradients of norm "
            f"{moving[-1].gradient_norm:.3g} arrived: the weights do not move."
        ),
        evidence={"validation": validations[-1], "epochs": SAME_EPOCHS, "lr": moving[-1].lr},
        action="Keep float32 master weights: updates this small vanish in half precision.",
    )


@rule(group="curve", explains=("plateau", "flat"), level="warning")
def loss_without_learning(case: RunHistory) -> Finding | None:
    """Report a loss at its minimum without learning: 0 with metrics that stay low, or -1 from the start on."""
    return metrics_contradict_loss(case) or _is_at_minimum_from_start(case)


def _is_at_minimum_from_start(case: RunHistory) -> Finding | None:
    """Return the finding for a negative cosine similarity that reaches -1 at once: its outputs are constant."""
    course = case.course
    if case.steps or len(course) < FEWEST_CURVE_EPOCHS or not case.begins_at_start or has_learnt(case.log):
        return None
    values = [value for _, value in course]
    first_index = next((i for i, value in enumerate(values) if value <= NEARLY_MINIMAL), len(values))
    late = values[first_index:]
    if min(values) < MINIMAL - ROUNDING or first_index > max(1, len(values) // 8) or not late:
        return None
    if max(late) > NEARLY_MINIMAL or median(late) > MINIMAL + MINIMAL_DOUBT:
        return None
    since, unit = course[first_index][0], case.course_unit
    return Finding(
        confidence=0.75,
        sentence=(
            f"The training loss is at {format_loss(median(late))} since {unit} {since}, the minimum of a negative "
            f"cosine similarity: the outputs have collapsed to a constant, and nothing is learnt."
        ),
        evidence={"since": since, "median": median(late)},
        action=(
            "Print the standard deviation of the normalised outputs: 0 is a collapse, 1/sqrt(dimensions) is healthy. "
            "Look at the stop-gradient, the predictor and its batch normalisation."
        ),
    )
