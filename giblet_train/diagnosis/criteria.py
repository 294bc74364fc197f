"""Success criteria held against what was observed: pure functions of (config, metrics), with their arithmetic.

While a run goes on a criterion is `on_track`, `at_risk` or already `pass`; once it has ended it is `pass` or `fail`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal

import msgspec

from giblet_train.schema.config import COMPONENTS, MODALITIES, Config, Criterion
from giblet_train.schema.records import AnyMetric, EpochMetric, EvaluationMetric, EventMetric, RunMetric, StepMetric
from giblet_train.schema.schedule import LrSchedule, lr_schedule

Status = Literal["pass", "on_track", "at_risk", "fail"]
_WORST_FIRST: tuple[Status, ...] = ("fail", "at_risk", "on_track", "pass")
MOST_EPOCHS = 100
WORDS: dict[Status, str] = {"pass": "PASS", "on_track": "ON TRACK", "at_risk": "AT RISK", "fail": "FAIL"}


class CriterionVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One criterion: where it stands and the numbers that say so.

    pace_needed, pace_seen: of what falls, per epoch from now on, and over the last third. deadline_epoch: the last
    epoch from which the best pace that it has had would still bring it there.
    """

    name: str
    status: Status
    needed: float | None
    seen: float | None
    sentence: str
    deadline_epoch: int | None = None
    pace_needed: float | None = None
    pace_seen: float | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All criteria of a run; the whole is as good as its worst."""

    status: Status
    criteria: tuple[CriterionVerdict, ...]

    @property
    def word(self) -> str:
        """PASS, ON TRACK, AT RISK or FAIL."""
        return WORDS[self.status]


FailOn = Literal["fail", "at_risk", "on_track"]


def reaches_level(status: Status, fail_on: FailOn) -> bool:
    """Is it as bad as that, or worse? `on_track` is all that has not passed yet."""
    return _WORST_FIRST.index(status) <= _WORST_FIRST.index(fail_on)


class RunMetrics(msgspec.Struct, frozen=True):
    """A run's metrics sorted by what they are. ended: no more of them will come."""

    config: Config
    run: RunMetric | None
    steps: tuple[StepMetric, ...]
    epochs: tuple[EpochMetric, ...]
    events: tuple[EventMetric, ...]
    evaluation: EvaluationMetric | None
    ended: bool

    @property
    def plan(self) -> LrSchedule | None:
        return lr_schedule(self.config, self.run.steps_per_epoch) if self.run else None

    @property
    def epochs_left(self) -> int:
        return max(0, self.config.num_epochs - (self.epochs[-1].epoch if self.epochs else 0))


def observe(config: Config, metrics: Sequence[AnyMetric], *, ended: bool = False) -> RunMetrics:
    """Sort metrics by kind. A run with an evaluation has ended whatever the caller knows."""
    evaluations = [m for m in metrics if isinstance(m, EvaluationMetric)]
    return RunMetrics(
        config,
        next((m for m in reversed(metrics) if isinstance(m, RunMetric)), None),
        tuple(m for m in metrics if isinstance(m, StepMetric)),
        tuple(m for m in metrics if isinstance(m, EpochMetric)),
        tuple(m for m in metrics if isinstance(m, EventMetric)),
        evaluations[-1] if evaluations else None,
        ended or bool(evaluations),
    )


def verdict_of(config: Config, metrics: Sequence[AnyMetric], *, ended: bool = False) -> Verdict:
    """Every criterion of the configuration, judged on the metrics so far.

    ended: the run is over (its health says so), so what is not reached has failed. Without criteria the verdict is
    `on_track` while it runs and `pass` at its end.
    """
    observed = observe(config, metrics, ended=ended)
    judged = tuple(_JUDGES[c.kind](name, c, observed) for name, c in config.criteria.items())
    if not judged:
        return Verdict(status="pass" if observed.ended else "on_track", criteria=())
    return Verdict(status=min((c.status for c in judged), key=_WORST_FIRST.index), criteria=judged)


class VerdictChange(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict that became another. was: None for the first. at: the epoch's end, seconds since 1970."""

    at: float
    epoch: int
    was: Status | None
    now: Status


def verdict_changes(config: Config, metrics: Sequence[AnyMetric], *, ended: bool = False) -> list[VerdictChange]:
    """How the verdict on the whole went, epoch by epoch (of a long run: over MOST_EPOCHS of them), to its end."""
    if not config.criteria or not metrics:
        return []
    ends = [i for i, m in enumerate(metrics, 1) if isinstance(m, EpochMetric)]
    changes: list[VerdictChange] = []
    looks = [(end, False) for end in ends[:: -(-len(ends) // MOST_EPOCHS) or 1]]
    for end, over in [*looks, (len(metrics), ended)]:
        last, was = metrics[end - 1], changes[-1].now if changes else None
        now = verdict_of(config, metrics[:end], ended=over).status
        if now != was:
            changes.append(VerdictChange(at=last.at, epoch=last.epoch, was=was, now=now))
    return changes


def _loss_drop(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Relative fall of the total from its start, the total of the best constant."""
    if criterion.scale == "explainable":
        return _explainable_drop(name, criterion, run)
    losses = _epoch_totals(run, criterion.split)
    start = run.run.start_total if run.run else 0.0
    if not losses or not start:
        return _waiting(name, criterion, run, "no epoch has ended yet")
    drops = [1.0 - loss / start for loss in losses]
    seen, needed = drops[-1], criterion.threshold
    facts = (
        f"{criterion.split} loss {_loss(start)} → {_loss(losses[-1])}: {-seen:+.1%} of its start, needs {-needed:+.0%}"
    )
    if seen >= needed or run.ended:
        return _settled(name, needed, seen, facts, passed=seen >= needed)
    pace, best_pace = _pace(drops)
    left = run.epochs_left
    needed_pace = (needed - seen) / left if left else math.inf
    deadline = (
        math.floor(run.config.num_epochs - (needed - seen) / best_pace) if best_pace > 0 else run.epochs[-1].epoch
    )
    return CriterionVerdict(
        name=name,
        status="on_track" if pace >= needed_pace else "at_risk",
        needed=needed,
        seen=seen,
        sentence=f"{facts}; needs {-needed_pace:+.2%}/epoch, doing {-pace:+.2%}; {_last_chance(deadline, run)}",
        deadline_epoch=max(0, deadline),
        pace_needed=needed_pace if math.isfinite(needed_pace) else None,
        pace_seen=pace,
    )


def _last_chance(deadline: int, run: RunMetrics) -> str:
    """When it can last be met, in words: at the best pace that there was."""
    now = run.epochs[-1].epoch if run.epochs else 0
    if deadline <= now:
        return f"not even its best pace so far would bring it there by epoch {run.config.num_epochs}"
    return f"at its best pace it can wait until epoch {deadline}"


def _explainable_drop(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Skill on voxels that carry signal, over the share of their variance that any model could explain."""
    seen = _figure(run, "encoding", "explainable_skill")
    if seen is None:
        return _waiting(name, criterion, run, "judged at the end, on the test block")
    facts = f"explains {seen:.1%} of the explainable variance, needs {criterion.threshold:.0%}"
    return _settled(name, criterion.threshold, seen, facts, passed=seen >= criterion.threshold)


def _val_gap(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    pairs = [(e, e.validation.total, e.train.total) for e in run.epochs if e.validation and e.validation.total]
    ratios = [(e, v / t) for e, v, t in pairs if v is not None and t]
    if not ratios:
        return _waiting(name, criterion, run, "no validation yet")
    epoch, seen = next((r for r in reversed(ratios) if r[0].best), ratios[-1])
    facts = f"validation is {seen:.2f}× training at epoch {epoch.epoch}, must stay below {criterion.threshold:g}×"
    return _standing(name, criterion.threshold, seen, facts, run, good=seen < criterion.threshold)


def _no_dominance(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """No component holds more than the threshold of both weighted loss and gradient, from the end of warm-up on."""
    after = run.plan.warmup_steps if run.plan else 0
    judged = [s for s in run.steps if s.step >= after and s.gradient_share]
    if not judged:
        return _waiting(name, criterion, run, "gradient shares are measured from the end of warm-up on")
    held = {c: median(_both_shares(s, c) for s in judged) for c in COMPONENTS if c in judged[-1].share}
    component, seen = max(held.items(), key=lambda item: item[1])
    facts = f"{component} holds {seen:.0%} of loss and gradient, the largest; limit {criterion.threshold:.0%}"
    return _standing(name, criterion.threshold, seen, facts, run, good=seen <= criterion.threshold)


def _starts_at_one(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    first = {c: v for c, v in (run.run.first_loss if run.run else {}).items() if v is not None}
    if not first:
        return _waiting(name, criterion, run, "the first losses are not measured yet")
    component, value = max(first.items(), key=lambda item: abs(item[1] - 1.0))
    seen = abs(value - 1.0)
    facts = f"{component} starts at {value:.4g}, the farthest from 1 ± {criterion.threshold:g}"
    return _settled(name, criterion.threshold, seen, facts, passed=seen <= criterion.threshold)


def _lr_reaches_peak(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    if not run.steps or run.plan is None:
        return _waiting(name, criterion, run, "no step yet")
    peak = max(s.lr for s in run.steps)
    seen = peak / run.plan.learning_rate
    facts = f"the rate reached {seen:.0%} of its base {run.plan.learning_rate:.2g}, needs {criterion.threshold:.0%}"
    if seen >= criterion.threshold or run.ended:
        return _settled(name, criterion.threshold, seen, facts, passed=seen >= criterion.threshold)
    late = run.steps[-1].step > run.plan.warmup_steps
    return CriterionVerdict(
        name=name,
        status="at_risk" if late else "on_track",
        needed=criterion.threshold,
        seen=seen,
        sentence=facts + (f", though warm-up was to end at step {run.plan.warmup_steps}" if late else ""),
        deadline_epoch=run.plan.epoch_of(run.plan.warmup_steps),
    )


def _beats_null(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    """Responsive voxels are predicted better than null ones (interval above 0), and better than the shift null."""
    seen = _figure(run, "encoding", "r_difference")
    low = _figure(run, "encoding", "r_difference_low")
    if seen is None or low is None:
        last = next((e.fmri_r for e in reversed(run.epochs) if e.fmri_r is not None), None)
        hint = f"; validation r is {last:.3f}" if last is not None else ""
        return _waiting(name, criterion, run, f"judged at the end, on the test block{hint}")
    high = _figure(run, "encoding", "r_difference_high")
    null = _figure(run, "encoding", "null_r_99")
    responsive = _figure(run, "encoding", "r_responsive")
    above_null = null is None or responsive is None or responsive > null
    facts = f"held-out r of responsive minus null voxels {seen:.3f} [{low:.3f}, {_number(high)}], needs"
    facts += f" {criterion.threshold:g} and an interval above 0"
    if null is not None and responsive is not None:
        facts += f"; responsive r {responsive:.3f} against {null:.3f}, the shift null's 99th percentile"
    return _settled(
        name, criterion.threshold, seen, facts, passed=seen >= criterion.threshold and low > 0 and above_null
    )


def _beats_mean(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    return _least_skill(name, criterion, run, COMPONENTS)


def _reconstruction_skill(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    return _least_skill(name, criterion, run, MODALITIES)


def _least_skill(name: str, criterion: Criterion, run: RunMetrics, components: Sequence[str]) -> CriterionVerdict:
    """Held-out 1 - MSE / MSE(train mean) of the worst of some components."""
    skill = run.evaluation.skill if run.evaluation else _last_validation_skill(run)
    known = {c: v for c in components if (v := skill.get(c)) is not None}
    if len(known) < len(components):
        return _waiting(name, criterion, run, "no held-out skill is known yet")
    seen = min(known.values())
    skills = ", ".join(f"{c} {v:+.2g}" for c, v in known.items())
    facts = f"held-out skill {skills}; needs > {criterion.threshold:g}"
    return _standing(name, criterion.threshold, seen, facts, run, good=seen > criterion.threshold)


def _validation_improves(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    losses = [(e.epoch, e.validation.total) for e in run.epochs if e.validation and e.validation.total is not None]
    if len(losses) < 2:
        return _waiting(name, criterion, run, "fewer than two validations yet")
    first = losses[0][1]
    epoch, best = min(losses, key=lambda item: item[1])
    seen = 1.0 - best / first
    facts = f"validation {first:.4g} → {best:.4g} at epoch {epoch}: {-seen:+.1%}, needs {-criterion.threshold:+.1%}"
    return _standing(name, criterion.threshold, seen, facts, run, good=seen > criterion.threshold)


def _no_nan(name: str, criterion: Criterion, run: RunMetrics) -> CriterionVerdict:
    bad = next((s for s in run.steps if s.total is None or None in s.loss.values()), None)
    if bad is None:
        facts = f"all {len(run.steps)} recorded steps are finite"
        return _standing(name, criterion.threshold, 0.0, facts, run, good=True)
    where = ", ".join(c for c, v in bad.loss.items() if v is None) or "the total"
    return _settled(name, criterion.threshold, 1.0, f"{where} is not finite at step {bad.step}", passed=False)


_JUDGES: dict[str, Callable[[str, Criterion, RunMetrics], CriterionVerdict]] = {
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


def _settled(name: str, needed: float, seen: float, sentence: str, *, passed: bool) -> CriterionVerdict:
    """A criterion that no further step can change, or that the run's end decides."""
    return CriterionVerdict(name=name, status="pass" if passed else "fail", needed=needed, seen=seen, sentence=sentence)


def _standing(name: str, needed: float, seen: float, sentence: str, run: RunMetrics, *, good: bool) -> CriterionVerdict:
    """A criterion that may still turn while the run goes on."""
    if run.ended:
        return _settled(name, needed, seen, sentence, passed=good)
    status: Status = "on_track" if good else "at_risk"
    return CriterionVerdict(
        name=name, status=status, needed=needed, seen=seen, sentence=sentence, deadline_epoch=run.config.num_epochs
    )


def _waiting(name: str, criterion: Criterion, run: RunMetrics, why: str) -> CriterionVerdict:
    """Not to be judged yet; at the end of a run that is a failure, for nothing proves it."""
    return CriterionVerdict(
        name=name,
        status="fail" if run.ended else "on_track",
        needed=criterion.threshold,
        seen=None,
        sentence=f"the run ended before it could be judged: {why}" if run.ended else why,
        deadline_epoch=None if run.ended else run.config.num_epochs,
    )


def _epoch_totals(run: RunMetrics, split: str) -> list[float]:
    parts = [e.train if split == "train" else e.validation for e in run.epochs]
    return [p.total for p in parts if p is not None and p.total is not None]


def _pace(drops: Sequence[float]) -> tuple[float, float]:
    """Fall per epoch over the last third (at least 3 epochs), and the best over any stretch as long."""
    if len(drops) < 2:
        return drops[0], max(drops[0], 0.0)
    span = min(len(drops) - 1, max(3, len(drops) // 3))
    rates = [(drops[i] - drops[i - span]) / span for i in range(span, len(drops))]
    return rates[-1], max(rates)


def _both_shares(step: StepMetric, component: str) -> float:
    gradient = (step.gradient_share or {}).get(component) or 0.0
    return min(step.share.get(component) or 0.0, gradient)


def _last_validation_skill(run: RunMetrics) -> dict[str, float | None]:
    return next((e.validation.skill for e in reversed(run.epochs) if e.validation and e.validation.skill), {})


def _figure(run: RunMetrics, part: str, key: str) -> float | None:
    figures: dict[str, Any] = getattr(run.evaluation, part) if run.evaluation else {}
    value = figures.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _loss(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"
