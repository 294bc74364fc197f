"""Compute the learning rate of every step. Pure.

The trainer sets its rate from here, and the diagnosis computes the same number: a difference is reported.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from giblet_train.schema.config import Config


class LrSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that determines the learning rate at every step."""

    steps_per_epoch: int
    """Optimizer steps per epoch."""
    total_steps: int
    """Optimizer steps of the run."""
    warmup_steps: int
    """Optimizer steps of the warm-up."""
    learning_rate: float
    """Base rate."""
    min_lr: float
    """Lowest rate."""
    warmup_start_factor: float
    """First rate divided by the base rate."""
    scheduler_type: Literal["cosine", "step", "none"]
    """Course after the warm-up."""
    step_decay_steps: int
    """Steps between two reductions."""
    step_decay_factor: float
    """Factor of each reduction."""

    def epoch_of(self, step: int) -> int:
        """Return the epoch (from 1) of a step (from 0)."""
        return step // self.steps_per_epoch + 1


class Warmup(msgspec.Struct, frozen=True, kw_only=True):
    """State of the warm-up after some steps."""

    step: int
    """Steps taken."""
    warmup_steps: int
    """Steps of the whole warm-up."""
    lr_planned: float
    """Planned rate at this step."""
    lr_base: float
    """Base rate."""
    finished: bool
    """The base rate has been reached."""

    @property
    def fraction(self) -> float:
        """Return the completed fraction: 0 at the start, 1 once the base rate is reached."""
        return min(1.0, self.step / self.warmup_steps) if self.warmup_steps else 1.0

    @property
    def steps_left(self) -> int:
        """Return the number of steps until the base rate."""
        return max(0, self.warmup_steps - self.step)


def default_steps_per_epoch(training_trs: int, trs_per_step: int) -> int:
    """Return max(20, ceil(training TRs / TRs scored per step)), so an epoch uses each training TR about once."""
    return max(20, math.ceil(training_trs / trs_per_step))


def lr_schedule(config: Config, steps_per_epoch: int) -> LrSchedule:
    """Return the schedule of a configuration whose epochs have `steps_per_epoch` optimizer steps."""
    warmup = config.warmup_steps
    if warmup is None:
        warmup = round(config.warmup_epochs * steps_per_epoch)
    return LrSchedule(
        steps_per_epoch=steps_per_epoch,
        total_steps=config.num_epochs * steps_per_epoch,
        warmup_steps=warmup,
        learning_rate=config.learning_rate,
        min_lr=config.min_lr,
        warmup_start_factor=config.warmup_start_factor,
        scheduler_type=config.scheduler_type,
        step_decay_steps=config.step_decay_epochs * steps_per_epoch,
        step_decay_factor=config.step_decay_factor,
    )


def lr_at(step: int, plan: LrSchedule) -> float:
    """Return the learning rate of a step, counted from 0.

    Linear from warmup_start_factor·base to base over warmup_steps, base exactly at step warmup_steps; then constant, a
    cosine that ends at min_lr with the last step, or a factor every step_decay_steps (never below min_lr).
    Loshchilov and Hutter (2017) for the cosine, without restarts.
    """
    base = plan.learning_rate
    if step < plan.warmup_steps:
        start = plan.warmup_start_factor
        return base * (start + (1.0 - start) * step / plan.warmup_steps)
    since = step - plan.warmup_steps
    if plan.scheduler_type == "none":
        return base
    if plan.scheduler_type == "step":
        return max(plan.min_lr, base * plan.step_decay_factor ** (since // plan.step_decay_steps))
    span = max(1, plan.total_steps - 1 - plan.warmup_steps)
    progress = min(1.0, since / span)
    return plan.min_lr + (base - plan.min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def warmup_at(step: int, plan: LrSchedule) -> Warmup:
    """Return the state of the warm-up at a step."""
    return Warmup(
        step=step,
        warmup_steps=plan.warmup_steps,
        lr_planned=lr_at(step, plan),
        lr_base=plan.learning_rate,
        finished=step >= plan.warmup_steps,
    )


class LrMismatch(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose observed rate differs from the plan."""

    step: int
    """The step."""
    observed: float
    """Observed rate."""
    planned: float
    """Planned rate."""
    cause: Literal["", "stepped_per_epoch"] = ""
    """Likely reason; empty if none fits."""

    @property
    def ratio(self) -> float:
        """Return observed / planned."""
        return self.observed / self.planned if self.planned else math.inf


def lr_mismatch_at(step: int, observed: float, plan: LrSchedule, tolerance: float) -> LrMismatch | None:
    """Return how the observed rate of a step differs from the plan; None within the relative `tolerance`.

    The cause is stepped_per_epoch if the rate is the one planned for as many steps as epochs have passed.
    """
    planned = lr_at(step, plan)
    if math.isclose(observed, planned, rel_tol=tolerance):
        return None
    by_epoch = lr_at(step // plan.steps_per_epoch, plan)
    per_epoch = plan.steps_per_epoch > 1 and math.isclose(observed, by_epoch, rel_tol=tolerance)
    cause: Literal["", "stepped_per_epoch"] = "stepped_per_epoch" if per_epoch else ""
    return LrMismatch(step=step, observed=observed, planned=planned, cause=cause)
