"""Rule for a learning rate that differs from its plan, with the likely reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.log_rate import vanished_rate
from giblet_train.diagnosis.rules.registry import fault, rule
from giblet_train.schema.records import EpochMetric, StepMetric
from giblet_train.schema.schedule import LrSchedule, lr_at, lr_schedule

Reason = Literal["", "stepped_per_epoch", "wrong_world_size", "resumed_without_state", "never_reaches_peak"]

Schedule = Callable[[int], float]

ACTIONS: dict[Reason, str] = {
    "": "Compare the optimizer's rate with giblet's plan: `giblet launch --dry-run` prints it.",
    "stepped_per_epoch": "Advance the schedule after every optimizer step, not after every epoch.",
    "wrong_world_size": "Build the schedule from this run's own steps per epoch and number of ranks.",
    "resumed_without_state": "Resume with the step count or the scheduler state, so that the warm-up is not repeated.",
    "never_reaches_peak": "Find what caps the rate, or shorten the warm-up so that the base rate is reached.",
}
FITS = 0.95
"""Share of the deviating steps that a reason must reproduce."""
SAMPLED = 400
RANKS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 64)
FINE_STEPS = 1000
"""Assumed steps per epoch for a log, which shows only the end of epochs: enough for a smooth rate."""
FEWEST_STEPS = 20
"""Assumed minimum of optimizer steps per epoch of a log; with fewer, per-epoch and per-step rates look alike."""
LOG_TOLERANCE = 0.03
"""Tolerance for logs, which print three digits and do not show whether they mean the first or last step."""
CAPPED = 0.9


@rule(
    group="plan",
    explains=(
        "curve",
        "diverging",
        "frozen_parameters",
        "nan",
    ),
    fault=fault("lr", "the schedule advances once per epoch instead of once per step"),
)
def lr_off_plan(case: RunHistory) -> Finding | None:
    """Report an observed rate that differs from the planned one."""
    plan = case.plan
    if plan is None or not case.steps:
        return _off_by_epochs(case) or vanished_rate(case)
    off = [s for s in case.steps if not _near(s.lr, lr_at(s.step, plan), case, plan)]
    if len(off) < case.watch.lr_steps:
        return _unreachable_peak(plan)
    reason = _reason(case, plan, off)
    last = off[-1]
    planned = lr_at(last.step, plan)
    return Finding(
        confidence=0.97 if reason else 0.9,
        sentence=(
            f"The learning rate left its plan at step {off[0].step}: {last.lr:.2e} at step {last.step} where "
            f"{planned:.2e} was planned{_because(reason)}."
        ),
        evidence={
            "reason": reason,
            "first_step": off[0].step,
            "steps_off": len(off),
            "step": last.step,
            "observed": last.lr,
            "planned": planned,
            "highest_observed": max(s.lr for s in case.steps),
            "base": plan.learning_rate,
        },
        action=ACTIONS[reason],
    )


def _near(observed: float, planned: float, case: RunHistory, plan: LrSchedule) -> bool:
    return math.isclose(observed, planned, rel_tol=case.watch.lr_tolerance, abs_tol=1e-6 * plan.learning_rate)


def _reason(case: RunHistory, plan: LrSchedule, off: Sequence[StepMetric]) -> Reason:
    """Return the first reason with a schedule that reproduces the observed rates."""
    sample = off[:: max(1, len(off) // SAMPLED)]
    for reason, schedule in _candidates(case, plan, off[0].step):
        n_near = sum(_near(s.lr, schedule(s.step), case, plan) for s in sample)
        if n_near >= FITS * len(sample):
            return reason
    return "never_reaches_peak" if _is_capped(case, plan, off) else ""


def _candidates(case: RunHistory, plan: LrSchedule, first_off: int) -> list[tuple[Reason, Schedule]]:
    """Return each reason with a schedule (step -> rate) that it would produce."""
    world_size = case.run.world_size if case.run else 1
    first_step = case.run.resumed_from_step if case.run else None
    restart = first_off if first_step is None else first_step
    n_ranks = dict.fromkeys([world_size, *RANKS] if world_size > 1 else RANKS)
    factors = (world_size, 1 / world_size) if world_size > 1 else ()
    resumes = [restart] if restart else []
    return [
        *(("resumed_without_state", _schedule(plan, shift=-step)) for step in resumes),
        *(("stepped_per_epoch", _schedule(plan, divisor=plan.steps_per_epoch, shift=shift)) for shift in (0, 1)),
        *(("wrong_world_size", _schedule(plan, divisor=n)) for n in n_ranks),
        *(("wrong_world_size", _schedule(plan, multiplier=n)) for n in n_ranks),
        *(("wrong_world_size", _schedule(plan, factor=factor)) for factor in factors),
    ]


def _schedule(
    plan: LrSchedule, *, multiplier: int = 1, divisor: int = 1, shift: int = 0, factor: float = 1.0
) -> Schedule:
    """Return a schedule that uses the planned rate of another step, times a factor."""
    return lambda step: factor * lr_at(max(0, step * multiplier // divisor + shift), plan)


def _is_capped(case: RunHistory, plan: LrSchedule, off: Sequence[StepMetric]) -> bool:
    """Return True if the rate never exceeds its plan and stays clearly below its base."""
    below = all(s.lr <= lr_at(s.step, plan) * (1 + case.watch.lr_tolerance) for s in off)
    constant = min(s.lr for s in off) > (1 - LOG_TOLERANCE) * max(s.lr for s in off)
    warmed_up = case.steps[-1].step > plan.warmup_steps
    return below and max(s.lr for s in case.steps) < CAPPED * plan.learning_rate and (constant or warmed_up)


def _because(reason: Reason) -> str:
    words = {
        "": "",
        "stepped_per_epoch": "; it moves once per epoch instead of once per step",
        "wrong_world_size": "; it is the schedule of another number of ranks",
        "resumed_without_state": "; the schedule started again when the run was resumed",
        "never_reaches_peak": "; it never reaches its base",
    }
    return words[reason]


def _unreachable_peak(plan: LrSchedule) -> Finding | None:
    """Report a plan whose warm-up is longer than the run."""
    if plan.warmup_steps < plan.total_steps:
        return None
    return Finding(
        confidence=0.9,
        sentence=(
            f"The warm-up of {plan.warmup_steps} steps is longer than the run of {plan.total_steps}: the base rate "
            f"{plan.learning_rate:.2e} is never reached."
        ),
        evidence={
            "reason": "never_reaches_peak",
            "warmup_steps": plan.warmup_steps,
            "total_steps": plan.total_steps,
            "base": plan.learning_rate,
        },
        action="Shorten the warm-up: 5 % of all steps is plenty.",
    )


def _off_by_epochs(case: RunHistory) -> Finding | None:
    """Report a deviation from the rates that a log prints at the end of each epoch, if the configuration is known."""
    config = case.config
    if config is None or config.warmup_steps is not None:
        return None
    plan = lr_schedule(config, FINE_STEPS)
    off = [e for e in case.epochs if not _within_epoch(e, plan)]
    if len(off) < 3:
        return None
    last = off[-1]
    planned = lr_at(last.epoch * FINE_STEPS, plan)
    reason = _reason_by_epochs(case, plan)
    return Finding(
        confidence=0.93 if reason else 0.8,
        sentence=(
            f"The learning rate is {last.lr:.2e} after epoch {last.epoch} where {planned:.2e} was planned (base "
            f"{plan.learning_rate:.2e}, warm-up {config.warmup_epochs:g} epochs){_because(reason)}."
        ),
        evidence={
            "reason": reason,
            "first_epoch": off[0].epoch,
            "epoch": last.epoch,
            "observed": last.lr,
            "planned": planned,
            "highest_observed": max(e.lr for e in case.epochs),
            "base": plan.learning_rate,
        },
        action=ACTIONS[reason],
    )


def _within_epoch(epoch: EpochMetric, plan: LrSchedule) -> bool:
    """Return True if the plan has this rate anywhere between the start of this epoch and the start of the next."""
    steps = [round((epoch.epoch - 1 + part / 4) * FINE_STEPS) for part in range(5)]
    planned = [lr_at(s, plan) for s in steps]
    slack = 1e-3 * plan.learning_rate
    return min(planned) * (1 - LOG_TOLERANCE) - slack <= epoch.lr <= max(planned) * (1 + LOG_TOLERANCE) + slack


def _reason_by_epochs(case: RunHistory, plan: LrSchedule) -> Reason:
    start = plan.warmup_start_factor * plan.learning_rate
    span = (plan.learning_rate - start) / (plan.warmup_steps / FINE_STEPS * FEWEST_STEPS) if plan.warmup_steps else 0.0
    lowest = start * (1 - LOG_TOLERANCE)
    if all(lowest <= e.lr <= (start + span * e.epoch) * (1 + LOG_TOLERANCE) for e in case.epochs):
        return "stepped_per_epoch"
    capped = max(e.lr for e in case.epochs) < CAPPED * plan.learning_rate
    return "never_reaches_peak" if capped else ""
