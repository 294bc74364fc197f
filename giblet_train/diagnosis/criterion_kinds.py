"""Judge each kind of success criterion, with its arithmetic in words. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from giblet_train.diagnosis.criterion_verdict import COMPLETED, CriterionVerdict, RunMetrics, Status
from giblet_train.diagnosis.run_start import LEARNT_BEYOND, format_loss, initial_total
from giblet_train.schema.config import Criterion
from giblet_train.schema.records import EpochMetric, StepMetric

EPSILON = 1e-9
"""Tolerance of comparisons, so that a value exactly at its threshold is not decided by rounding."""
FEWEST_GAPS = 3
"""Validations from which the last third of training is judged, next to the best epoch."""
SUSPICIOUS_GAP = 0.5
"""Validation loss / training loss below which the sentence points out that validation may not be comparable."""

Judge = Callable[[str, Criterion, RunMetrics], CriterionVerdict]


def judge_criteria(run: RunMetrics) -> list[CriterionVerdict]:
    """Judge `completed` and every criterion of the configuration, in this order."""
    criteria = run.config.criteria.items()
    return [judge_completion(run), *(JUDGES[criterion.kind](name, criterion, run) for name, criterion in criteria)]


def judge_completion(run: RunMetrics) -> CriterionVerdict:
    """Judge whether a run trained to its end, ended normally, and stayed finite after its best epoch."""
    planned, epoch = run.config.num_epochs, run.last_epoch
    not_finite = _not_finite_after_best(run)
    facts = f"{epoch} of {planned} epochs"
    if run.stopped_early:
        facts += ", then early stopping"
    if not_finite:
        facts += f"; {not_finite}, after the best epoch"
    if not run.ended:
        status: Status = "at_risk" if not_finite else "on_track"
        return _undecided(COMPLETED, planned, epoch, facts, run, status)
    assert run.health is not None
    if run.health.state != "finished" or not run.trained_fully:
        facts += f"; {run.health.state}: {run.health.sentence}"
    is_complete = run.trained_fully and run.health.state == "finished" and not not_finite
    return _decided(COMPLETED, planned, epoch, facts, passed=is_complete)


def _not_finite_after_best(run: RunMetrics) -> str:
    """Return what is not finite after the best epoch; empty if nothing is."""
    best = _best_epoch(run)
    after = best.epoch if best else 0
    step = next((s for s in run.steps if s.epoch > after and (s.total is None or None in s.loss.values())), None)
    if step is not None:
        component = ", ".join(c for c, v in step.loss.items() if v is None) or "the total"
        return f"{component} is not finite from step {step.step} on"
    epoch = next((e for e in run.epochs if e.epoch > after and e.train.total is None), None)
    return f"the training loss is not finite from epoch {epoch.epoch} on" if epoch else ""


def _best_epoch(run: RunMetrics) -> EpochMetric | None:
    """Return the epoch marked best, or else the one with the lowest validation (or training) loss."""
    best_epoch = next((e for e in reversed(run.epochs) if e.best), None)
    if best_epoch is not None:
        return best_epoch
    losses = [(_total(e, "held-out") or _total(e, "train"), e) for e in run.epochs]
    finite = [(loss, e) for loss, e in losses if loss is not None]
    return min(finite, key=lambda item: item[0])[1] if finite else None


def _loss_drop(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge the relative decrease of the total against the best constant, over all planned epochs.

    The run must also improve on its own beginning: a ridge initialisation alone does not pass.
    """
    if criterion.scale == "explainable":
        return _explainable_drop(name, criterion, run)
    start = run.run.start_total if run.run else 0.0
    losses = [(e.epoch, _total(e, criterion.split)) for e in run.epochs]
    finite = [(epoch, loss) for epoch, loss in losses if loss is not None]
    if not finite or not start:
        return _waiting(name, criterion, run, "no epoch has ended yet")
    last, threshold = finite[-1][1], criterion.threshold
    drops = [1.0 - loss / start for _, loss in finite]
    own = 1.0 - last / finite[0][1] if finite[0][1] else 0.0
    own_text = f"{-own:+.1%} from its own first epoch" if len(finite) > 1 else "in its first epoch"
    facts = (
        f"{criterion.split} loss {format_loss(start)} (best constant) → {format_loss(last)}: "
        f"{_percent(-drops[-1], -threshold)} of the best constant, {own_text}; needs {_percent(-threshold, -drops[-1])}"
    )
    if run.ended:
        return _final_drop(name, criterion, run, drops[-1], facts, finite=losses[-1][1] is not None)
    return _drop_under_way(name, threshold, drops, facts, run)


def _final_drop(
    name: str, criterion: Criterion, run: RunMetrics, drop: float, facts: str, *, finite: bool
) -> CriterionVerdict:
    """Decide a loss_drop at the end of the run."""
    reached = drop >= criterion.threshold - EPSILON
    if reached and not finite:
        facts, reached = f"{facts}; the loss of the last epoch is not finite", False
    elif reached and not run.trained_fully:
        facts += f"; this must hold at epoch {run.config.num_epochs}, and the run ended at epoch {run.last_epoch}"
        reached = False
    elif reached and criterion.split == "train" and not _learnt_beyond_start(run):
        facts, reached = f"{facts}; nothing was learnt beyond the initialisation", False
    return _decided(name, criterion.threshold, drop, facts, passed=reached)


def _learnt_beyond_start(run: RunMetrics) -> bool:
    """Return True if the training total decreased from what the run itself began with."""
    totals = [total for e in run.epochs if (total := e.train.total) is not None]
    start = run.run.start_total if run.run else None
    own_start = initial_total(run.steps, start) or (totals[0] if totals else None)
    if not totals or not own_start:
        return False
    return 1.0 - totals[-1] / own_start > LEARNT_BEYOND


def _drop_under_way(
    name: str, threshold: float, drops: Sequence[float], facts: str, run: RunMetrics
) -> CriterionVerdict:
    """Judge a loss_drop before the last epoch, by its rate."""
    value, n_left, planned = drops[-1], run.epochs_left, run.config.num_epochs
    if value >= threshold - EPSILON:
        return _undecided(name, threshold, value, f"{facts}; reached, and judged at epoch {planned}", run, "on_track")
    pace, best_pace = _pace(drops)
    needed_pace = (threshold - value) / n_left if n_left else math.inf
    more = math.ceil((threshold - value) / best_pace) if best_pace > 0 else None
    return CriterionVerdict(
        name=name,
        status="on_track" if pace >= needed_pace else "at_risk",
        needed=threshold,
        seen=value,
        sentence=f"{facts}; {_rate_sentence(pace, needed_pace, more, n_left)}",
        deadline_epoch=max(0, planned - more) if more is not None else run.last_epoch,
        pace_needed=needed_pace if math.isfinite(needed_pace) else None,
        pace_seen=pace,
    )


def _rate_sentence(pace: float, needed_pace: float, epochs_at_best: int | None, epochs_left: int) -> str:
    """Describe the rate that is needed and the rate observed."""
    if not epochs_left:
        return "no epoch is left"
    rates = f"needs {_percent(-needed_pace, -pace)} per epoch, now {_percent(-pace, -needed_pace)} per epoch"
    if epochs_at_best is None:
        return f"{rates}; it has not decreased so far, with {epochs_left} epochs left"
    verb = "it needs" if epochs_at_best <= epochs_left else "it would need"
    return f"{rates}; at its fastest rate so far {verb} {epochs_at_best} more epochs of the {epochs_left} left"


def _explainable_drop(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge the skill on voxels with signal, relative to the variance that any model could explain."""
    value = _figure(run, "encoding", "explainable_skill")
    if value is None:
        return _waiting(name, criterion, run, "judged at the end, on the test block")
    threshold = criterion.threshold
    facts = f"explains {_percent(value, threshold, sign=False)} of the explainable variance, needs {threshold:.0%}"
    return _decided(name, threshold, value, facts, passed=value >= threshold - EPSILON)


def _val_gap(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge validation loss / training loss, at the best epoch and over the last third of training."""
    pairs = [(e, _total(e, "held-out"), e.train.total) for e in run.epochs]
    ratios = [(e, held_out / train) for e, held_out, train in pairs if held_out is not None and train]
    if not ratios:
        return _waiting(name, criterion, run, "no validation yet")
    best_epoch, at_best = next((r for r in reversed(ratios) if r[0].best), ratios[-1])
    recent = [ratio for _, ratio in ratios[-max(1, math.ceil(len(ratios) / 3)) :]]
    late = median(recent) if len(ratios) >= FEWEST_GAPS else at_best
    value, limit = max(at_best, late), criterion.threshold
    facts = f"validation is {_times(at_best, limit)} training at epoch {best_epoch.epoch}"
    if len(ratios) >= FEWEST_GAPS:
        facts += f" and {_times(late, limit)} over the last third of training"
    facts += f", must stay below {limit:g}×"
    if value < SUSPICIOUS_GAP:
        facts += "; so far below training, validation may be another loss or easier data"
    return _current(name, limit, value, facts, run, good=value < limit - EPSILON)


def _no_dominance(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge that no component exceeds the threshold in both weighted loss and gradient after the warm-up."""
    warmup_steps = run.plan.warmup_steps if run.plan else 0
    steps = [s for s in run.steps if s.step >= warmup_steps and s.gradient_share]
    if not steps:
        return _waiting(name, criterion, run, "gradient shares are measured from the end of warm-up on")
    shares = {c: median(min(_loss_share(s, c), _gradient_share(s, c)) for s in steps) for c in steps[-1].share}
    component, value = max(shares.items(), key=lambda item: item[1])
    loss = median(_loss_share(s, component) for s in steps)
    gradient = median(_gradient_share(s, component) for s in steps)
    limit = criterion.threshold
    facts = (
        f"{component} is {_percent(loss, limit, sign=False)} of the loss and {_percent(gradient, limit, sign=False)} "
        f"of the gradient, the largest; limit {limit:.0%} of both"
    )
    return _current(name, limit, value, facts, run, good=value <= limit + EPSILON)


def _loss_share(step: StepMetric, component: str) -> float:
    return step.share.get(component) or 0.0


def _gradient_share(step: StepMetric, component: str) -> float:
    return (step.gradient_share or {}).get(component) or 0.0


def _starts_at_one(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    first = {c: v for c, v in (run.run.first_loss if run.run else {}).items() if v is not None}
    if not first:
        return _waiting(name, criterion, run, "the first losses are not measured yet")
    component, value = max(first.items(), key=lambda item: abs(item[1] - 1.0))
    deviation = abs(value - 1.0)
    facts = f"{component} starts at {value:.4g}, the farthest from 1 ± {criterion.threshold:g}"
    return _decided(name, criterion.threshold, deviation, facts, passed=deviation <= criterion.threshold + EPSILON)


def _lr_reaches_peak(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    if not run.steps or run.plan is None:
        return _waiting(name, criterion, run, "no step yet")
    value, threshold = max(s.lr for s in run.steps) / run.plan.learning_rate, criterion.threshold
    facts = (
        f"the rate reached {_percent(value, threshold, sign=False)} of its base {run.plan.learning_rate:.2g}, "
        f"needs {threshold:.0%}"
    )
    reached = value >= threshold - EPSILON
    if reached or run.ended:
        return _decided(name, threshold, value, facts, passed=reached)
    late = run.steps[-1].step > run.plan.warmup_steps
    return CriterionVerdict(
        name=name,
        status="at_risk" if late else "on_track",
        needed=threshold,
        seen=value,
        sentence=facts + (f", although warm-up was to end at step {run.plan.warmup_steps}" if late else ""),
        deadline_epoch=run.plan.epoch_of(run.plan.warmup_steps),
    )


def _beats_null(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge that responsive voxels are predicted better than null voxels and better than by chance."""
    value = _figure(run, "encoding", "r_difference")
    low = _figure(run, "encoding", "r_difference_low")
    if value is None or low is None:
        last = next((e.fmri_r for e in reversed(run.epochs) if e.fmri_r is not None), None)
        hint = f"; validation r is {last:.3f}" if last is not None else ""
        return _waiting(name, criterion, run, f"judged at the end, on the test block{hint}")
    high = _figure(run, "encoding", "r_difference_high")
    null = _figure(run, "encoding", "null_r_99")
    responsive = _figure(run, "encoding", "r_responsive")
    above_null = null is None or responsive is None or responsive > null
    facts = f"held-out r of responsive minus null voxels {value:.3f} [{low:.3f}, {_number(high)}], needs"
    facts += f" {criterion.threshold:g} and an interval above 0"
    if null is not None and responsive is not None:
        facts += f"; responsive r {responsive:.3f} against {null:.3f}, the 99th percentile by chance"
        if _figure(run, "encoding", "null_stretches") == 0:
            facts += " (from circular shifts, which are too low: no other block of the film is as long)"
    is_met = value >= criterion.threshold - EPSILON and low > 0 and above_null
    return _decided(name, criterion.threshold, value, facts, passed=is_met)


def _beats_mean(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    return _least_skill(name, criterion, run, run.components)


def _reconstruction_skill(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    return _least_skill(name, criterion, run, [c for c in run.components if c != "fmri"])


def _least_skill(name: str, criterion: Criterion, run: RunMetrics, components: Sequence[str]) -> CriterionVerdict:
    """Judge the smallest held-out skill, 1 - MSE / MSE of the training mean, of components that are trained."""
    if not components:
        return _waiting(name, criterion, run, "no feature space is reconstructed")
    skill = run.evaluation.skill if run.evaluation else _last_validation_skill(run)
    measured = {c: v for c in components if (v := skill.get(c)) is not None}
    if len(measured) < len(components):
        unknown = [c for c in components if c not in measured]
        return _waiting(name, criterion, run, f"no held-out skill of {', '.join(unknown)} is known yet")
    value = min(measured.values())
    facts = f"held-out skill {', '.join(f'{c} {v:+.2g}' for c, v in measured.items())}; needs > {criterion.threshold:g}"
    return _current(name, criterion.threshold, value, facts, run, good=value > criterion.threshold)


def _validation_improves(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Judge the best validation against the first one of the whole run."""
    losses = [(e.epoch, total) for e in run.epochs if (total := _total(e, "held-out")) is not None]
    if len(losses) < 2:
        return _waiting(name, criterion, run, "fewer than two validations yet")
    first, threshold = losses[0][1], criterion.threshold
    epoch, best = min(losses, key=lambda item: item[1])
    value = 1.0 - best / first if first else 0.0
    requirement = f"needs more than {_percent(-threshold, -value)}" if threshold else "needs any decrease"
    decrease = f"{_percent(-value, -threshold)} at epoch {epoch}" if value else "no decrease"
    facts = f"validation {format_loss(first)} → {format_loss(best)}: {decrease}, {requirement}"
    return _current(name, threshold, value, facts, run, good=value > threshold + EPSILON)


def _no_nan(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    bad = next((s for s in run.steps if s.total is None or None in s.loss.values()), None)
    if bad is None:
        facts = f"all {len(run.steps)} recorded steps are finite" if run.steps else "no step yet"
        return _current(name, criterion.threshold, 0.0, facts, run, good=True)
    component = ", ".join(c for c, v in bad.loss.items() if v is None) or "the total"
    return _decided(name, criterion.threshold, 1.0, f"{component} is not finite at step {bad.step}", passed=False)


JUDGES: dict[str, Judge] = {
    "loss_drop": _loss_drop,
    "val_gap": _val_gap,
    "no_dominance": _no_dominance,
    "starts_at_one": _starts_at_one,
    "lr_reaches_peak": _lr_reaches_peak,
    "beats_null": _beats_null,
    "beats_mean": _beats_mean,
    "reconstruction_skill": _reconstruction_skill,
    "validation_improves": _validation_improves,
    "no_nan": _no_nan,
}
"""Kind of criterion -> function that judges it."""


def _decided(name: str, threshold: float, value: float, sentence: str, *, passed: bool) -> CriterionVerdict:
    """Return a verdict that no further step can change, or that the end of the run decides."""
    return CriterionVerdict(
        name=name, status="pass" if passed else "fail", needed=threshold, seen=value, sentence=sentence
    )


def _undecided(
    name: str, threshold: float, value: float, sentence: str, run: RunMetrics, status: Status
) -> CriterionVerdict:
    """Return a verdict that is decided at the last epoch."""
    return CriterionVerdict(
        name=name, status=status, needed=threshold, seen=value, sentence=sentence, deadline_epoch=run.config.num_epochs
    )


def _current(
    name: str, threshold: float, value: float, sentence: str, run: RunMetrics, *, good: bool
) -> CriterionVerdict:
    """Return a verdict that may still change while the run is live."""
    if run.ended:
        return _decided(name, threshold, value, sentence, passed=good)
    return _undecided(name, threshold, value, sentence, run, "on_track" if good else "at_risk")


def _waiting(name: str, criterion: Criterion, run: RunMetrics, why: str) -> CriterionVerdict:
    """Return the verdict on what cannot be judged yet: at the end of a run that is a failure."""
    return CriterionVerdict(
        name=name,
        status="fail" if run.ended else "on_track",
        needed=criterion.threshold,
        seen=None,
        sentence=f"the run ended before it could be judged: {why}" if run.ended else why,
        deadline_epoch=None if run.ended else run.config.num_epochs,
    )


def _total(epoch: EpochMetric, split: str) -> float | None:
    part = epoch.train if split == "train" else epoch.validation
    return part.total if part is not None else None


def _pace(drops: Sequence[float]) -> tuple[float, float]:
    """Return the decrease per epoch over the last third (at least 3 epochs), and the best over any such stretch."""
    if len(drops) < 2:
        return drops[0], max(drops[0], 0.0)
    span = min(len(drops) - 1, max(3, len(drops) // 3))
    rates = [(drops[i] - drops[i - span]) / span for i in range(span, len(drops))]
    return rates[-1], max(rates)


def _last_validation_skill(run: RunMetrics) -> dict[str, float | None]:
    return next((e.validation.skill for e in reversed(run.epochs) if e.validation and e.validation.skill), {})


def _figure(run: RunMetrics, part: str, key: str) -> float | None:
    figures: dict[str, Any] = getattr(run.evaluation, part) if run.evaluation else {}
    value = figures.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _percent(value: float, other: float, *, sign: bool = True) -> str:
    """Format a fraction in percent with as many digits as are needed to distinguish it from another one."""
    for digits in (1, 2, 3, 4):
        text = f"{value:+.{digits}%}" if sign else f"{value:.{digits}%}"
        other_text = f"{other:+.{digits}%}" if sign else f"{other:.{digits}%}"
        if text != other_text or abs(value - other) <= EPSILON:
            break
    whole = f"{value:+.0%}" if sign else f"{value:.0%}"
    exact = abs(value - round(value, 2)) <= EPSILON
    return whole if exact and abs(value) >= EPSILON else text.replace("-0.0%", "0.0%").replace("+0.0%", "0.0%")


def _times(value: float, limit: float) -> str:
    """Format a factor with as many digits as are needed to distinguish it from its limit."""
    for digits in (2, 3, 4):
        text = f"{value:.{digits}f}×"
        if float(text[:-1]) != limit or abs(value - limit) <= EPSILON:
            break
    return text


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
