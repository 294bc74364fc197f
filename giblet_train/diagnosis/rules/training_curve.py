"""The training curve: not finite, diverging, frozen, flat, stopped short, always clipped, lost to rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, takewhile
from statistics import fmean, median, stdev

from giblet_train.diagnosis.rules.case import Finding, RunHistory, format_loss, median_or_none
from giblet_train.diagnosis.rules.curve_fit import best_bent, best_fall, from_steepest
from giblet_train.diagnosis.rules.log_evidence import collapse_finding
from giblet_train.diagnosis.rules.registry import FAULT_STEP, SHORT_WARMUP, WARN_ONLY, fault, rule
from giblet_train.schema.records import StepMetric

BLOCK_STEPS = 10
NOTHING = 1e-12
"""A gradient norm below this is none."""
FEWEST_VALIDATIONS = 3
FEWEST_CURVE_EPOCHS = 6
LEARNT = 0.01
"""A relative fall that shows that something was learnt before learning stopped."""
HIGH_RATE = 0.5
BEND = 15.0
"""How much better, in F, a curve with a knee must fit than one without."""
CURVE_EPOCHS = 60
SETTLED_EPOCHS = 3
SAME_EPOCHS = 3
WHOLE_COURSE = 0.2
"""The least relative fall that a whole plan is for."""
ELSEWHERE = 0.05


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
    """A loss or a gradient that is not finite: the first component, and its step."""
    measured = False
    for step in case.steps:
        bad = [c for c, v in step.loss.items() if v is None]
        measured = measured or step.gradient_norm is not None
        if bad or step.total is None or (measured and step.gradient_norm is None):
            return _not_finite(", ".join(bad) if 0 < len(bad) < len(step.loss) else _whole(bad), step.step, None)
    lost = next((e for e in case.epochs if e.train.total is None), None)
    return _not_finite("the training loss", None, lost.epoch) if lost else collapse_finding(case)


def _whole(bad: Sequence[str]) -> str:
    return "every component" if bad else "the gradient"


def _not_finite(what: str, step: int | None, epoch: int | None) -> Finding:
    where = f"at step {step}" if step is not None else f"in epoch {epoch}"
    return Finding(
        confidence=0.99,
        sentence=f"{what[:1].upper()}{what[1:]} stopped being finite {where}.",
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
    """The training loss rises far above the best it had."""
    blocks, unit = _blocks(case.steps), "step"
    if len(blocks) < 3:
        blocks, unit = ([] if case.steps else case.train_totals), "epoch"
    if len(blocks) < 3:
        return None
    since, best = min(blocks[:-1], key=lambda block: block[1])
    (_, before), (now, last) = blocks[-2:]
    high = case.watch.diverging_factor * best
    if best <= 0 or last < high or (last < before and before < high):
        return None
    return Finding(
        confidence=0.96,
        sentence=(
            f"The training loss rose from {format_loss(best)} at {unit} {since} to {format_loss(last)} at {unit} "
            f"{now}: {last / best:.3g} times its best."
        ),
        evidence={
            "best": best,
            "last": last,
            "ratio": last / best,
            "gradient_norm": median_or_none([s.gradient_norm for s in case.steps[-BLOCK_STEPS:]]),
        },
        action="Stop it; resume from the best checkpoint with a third of the learning_rate.",
    )


def _blocks(steps: Sequence[StepMetric]) -> list[tuple[int, float]]:
    """(first step, median total) of consecutive blocks of steps that end with the newest: no single spike counts."""
    first = len(steps) % BLOCK_STEPS
    found = []
    for i in range(first, len(steps), BLOCK_STEPS):
        block = steps[i : i + BLOCK_STEPS]
        value = median_or_none([s.total for s in block])
        if value is not None:
            found.append((block[0].step, value))
    return found


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
    """No gradient arrives: at all, or from one component."""
    n = case.watch.frozen_steps
    still = len(
        list(takewhile(lambda s: s.gradient_norm is not None and s.gradient_norm < NOTHING, reversed(case.steps)))
    )
    if still >= n:
        first = case.steps[-still].step
        return Finding(
            confidence=0.98,
            sentence=f"The gradient has been 0 for {still} steps, since step {first}: nothing can be learnt.",
            evidence={"component": None, "since_step": first, "steps": still},
            action="Look for frozen or detached parameters, and for a loss that does not depend on the weights.",
        )
    shares = [s.gradient_share for s in case.steps if s.gradient_share][-3:]
    dead = [c for c in case.components if len(shares) == 3 and all(share.get(c) == 0.0 for share in shares)]
    if not dead:
        return None
    return Finding(
        confidence=0.9,
        sentence=f"No gradient comes from {dead[0]}: its share was 0 at each of the last {len(shares)} measurements.",
        evidence={"component": dead[0], "measured": len(shares)},
        action=f"Look for a detached tensor between the bottleneck and the loss of {dead[0]}.",
    )


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
    """After enough steps at a real rate, the loss is where it began."""
    if case.start_total is None or not case.steps:
        return _flat_epochs(case)
    base = case.plan.learning_rate if case.plan else max(s.lr for s in case.steps)
    worth = sum(s.lr for s in case.steps) / base if base else 0.0
    held = [v for _, v in case.validation_totals]
    warm = case.plan is None or case.steps[-1].step >= case.plan.warmup_steps
    if not warm or worth < case.watch.flat_steps or (held and len(held) < FEWEST_VALIDATIONS):
        return None
    known = [s.total for s in case.steps if s.total is not None]
    last = known[-max(case.watch.recent_steps, len(known) // 4) :]
    if len(last) < 2:
        return None
    start = _began(case, case.start_total)
    doubt = 2 * stdev(last) / math.sqrt(len(last)) / start
    fall = 1 - fmean(last) / start
    held_fall = _held_fall(held, start)
    # More steps owe more; a long plan may begin slowly: it owes no more than its share of the whole course.
    gone = case.steps[-1].step / case.plan.total_steps if case.plan else 1.0
    owed = min(case.watch.flat_change * math.sqrt(worth / case.watch.flat_steps), WHOLE_COURSE * gone)
    if fall > owed + doubt or held_fall > owed:
        return None
    return _flat(
        f"The training loss is {format_loss(fmean(last))} after {case.steps[-1].step + 1} steps, {-fall:+.2%} from its "
        f"start {format_loss(start)} (± {doubt:.2%})",
        {"fall": fall, "doubt": doubt, "steps": len(case.steps), "validation_fall": held_fall},
    )


def _began(case: RunHistory, start_total: float) -> float:
    """What learning is held against: the best constant, or the first steps where weights began better than that."""
    first = [s.total for s in case.steps[:BLOCK_STEPS] if s.total is not None and s.step < BLOCK_STEPS]
    begun = fmean(first) if len(first) == BLOCK_STEPS else start_total
    return begun if begun < start_total * (1 - ELSEWHERE) else start_total


def _held_fall(held: Sequence[float], start: float) -> float:
    """The relative fall of validation, over its last few; 0 while there is none."""
    if len(held) < FEWEST_VALIDATIONS:
        return 0.0
    # A held-out block may have another mean than the training TRs have: then its own beginning counts.
    first = start if abs(held[0] / start - 1) < ELSEWHERE else held[0]
    return 1 - fmean(held[-FEWEST_VALIDATIONS:]) / first


def _flat_epochs(case: RunHistory) -> Finding | None:
    totals = case.train_totals
    n = case.watch.flat_epochs
    if len(totals) < n or not totals[0][1]:
        return None
    fall = 1 - min(v for _, v in totals) / totals[0][1]
    recent = [v for _, v in totals[-n:]]
    change = (max(recent) - min(recent)) / abs(fmean(recent))
    if fall > 2 * case.watch.flat_change or change > case.watch.flat_change:
        return None
    (first_epoch, first), (epoch, last) = totals[0], totals[-1]
    return _flat(
        f"The training loss went from {format_loss(first)} to {format_loss(last)} in epochs {first_epoch} to {epoch}: "
        f"{last / first - 1:+.2%}",
        {"fall": 1 - last / first, "epochs": len(totals), "change": change},
    )


def _flat(facts: str, evidence: dict[str, float | int | None]) -> Finding:
    return Finding(
        confidence=0.85,
        sentence=f"{facts}: nothing is learnt.",
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
    """Learning stopped from one epoch to the next, while the rate was high and the curve was still falling.

    Validation has the steadier curve, but giblet's averaged weights round its knee: there training's is looked at too.
    """
    curves = (case.validation_totals, case.train_totals if case.steps or not case.validation_totals else [])
    found = (_stopped_short(case, totals) for totals in curves if totals)
    return next((cause for cause in found if cause is not None), None)


def _stopped_short(case: RunHistory, source: Sequence[tuple[int, float]]) -> Finding | None:
    points = from_steepest([(float(e), v) for e, v in source])[-CURVE_EPOCHS:]
    settled = SETTLED_EPOCHS if case.steps else case.watch.flat_epochs
    if len(points) < FEWEST_CURVE_EPOCHS - SETTLED_EPOCHS + settled:
        return None
    if not _rate_held(case, points[-settled][0]):
        return None
    knees = [between for a, b in pairwise(x for x, _ in points[1 : -settled + 1]) for between in ((a + b) / 2, b)]
    smooth, bent = best_fall(points), best_bent(points, knees)
    freedom = max(1, len(points) - 4)
    better = (smooth.error - bent.error) / max(bent.error / freedom, 1e-18)
    now = bent.at(points[-1][0])
    missing = (now - (bent.floor + bent.height * math.exp(-bent.rate * points[-1][0]))) / abs(now)
    learnt = 1 - now / points[0][1]
    if better < BEND or missing < case.watch.plateau_fall or learnt < LEARNT or not _rate_held(case, bent.knee):
        return None
    return Finding(
        confidence=0.85,
        sentence=(
            f"Learning stopped at epoch {bent.knee:g}: the loss has stayed at {format_loss(now)} since, where its own "
            f"course would have taken it {missing:.1%} lower, and the rate is still high."
        ),
        evidence={"knee_epoch": bent.knee, "level": now, "missing_fall": missing, "better_f": better},
        action="Lower the rate (scheduler_type: cosine), or look at what changed at that epoch.",
    )


def _rate_held(case: RunHistory, since_epoch: float) -> bool:
    """Has the rate been high and nearly constant from the knee on? A schedule that ends explains a curve that does."""
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
    """Nearly every step is cut, and by a lot: the step's length is the limit's, whatever the rate says."""
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
    """Gradients flow, yet validation repeats itself to the last digit: the weights' rounding swallows the updates."""
    held = [v for _, v in case.validation_totals][-SAME_EPOCHS:]
    moving = [s for s in case.steps[-BLOCK_STEPS:] if (s.gradient_norm or 0.0) > 0.0 and s.lr > 0.0]
    if len(held) < SAME_EPOCHS or len(set(held)) > 1 or not moving:
        return None
    return Finding(
        confidence=0.93,
        sentence=(
            f"Validation was exactly {held[-1]!r} {SAME_EPOCHS} times in a row while gradients of norm "
            f"{moving[-1].gradient_norm:.3g} arrived: the weights do not move."
        ),
        evidence={"validation": held[-1], "epochs": SAME_EPOCHS, "lr": moving[-1].lr},
        action="Keep float32 master weights: updates this small vanish in half precision.",
    )
