"""The plan of a run's steps: how many, and which learning rate each one uses. Pure arithmetic of the step.

The trainer sets its rate from here, and everything that watches computes the same number: a difference is an alarm.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from giblet_train.schema.config import Config


class LrSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides the learning rate at every step. Rates are per optimizer step, lengths in steps."""

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    learning_rate: float
    min_lr: float
    warmup_start_factor: float
    scheduler_type: Literal["cosine", "step", "none"]
    step_decay_steps: int
    step_decay_factor: float

    def epoch_of(self, step: int) -> int:
        """The epoch, from 1, that step `step` (from 0) belongs to."""
        return step // self.steps_per_epoch + 1


class Warmup(msgspec.Struct, frozen=True, kw_only=True):
    """Where the warm-up stands after `step` steps: the clock on the dashboard."""

    step: int
    warmup_steps: int
    lr_planned: float
    lr_base: float
    finished: bool

    @property
    def fraction(self) -> float:
        """0 at the start, 1 once the base rate is reached."""
        return min(1.0, self.step / self.warmup_steps) if self.warmup_steps else 1.0

    @property
    def steps_left(self) -> int:
        """Steps until the base rate."""
        return max(0, self.warmup_steps - self.step)


def default_steps_per_epoch(training_trs: int, trs_per_step: int) -> int:
    """max(20, ceil(training TRs / TRs scored per step)): an epoch sees each training TR about once."""
    return max(20, math.ceil(training_trs / trs_per_step))


def lr_schedule(config: Config, steps_per_epoch: int) -> LrSchedule:
    """The plan of a resolved configuration whose epoch has `steps_per_epoch` optimizer steps."""
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
    """The learning rate that step `step` uses, step from 0.

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
    """The warm-up's state at step `step`."""
    return Warmup(
        step=step,
        warmup_steps=plan.warmup_steps,
        lr_planned=lr_at(step, plan),
        lr_base=plan.learning_rate,
        finished=step >= plan.warmup_steps,
    )


class LrMismatch(msgspec.Struct, frozen=True, kw_only=True):
    """A step whose observed rate is not the planned one. cause: the likely reason, empty where none fits."""

    step: int
    observed: float
    planned: float
    cause: Literal["", "stepped_per_epoch"] = ""

    @property
    def ratio(self) -> float:
        """Observed over planned."""
        return self.observed / self.planned if self.planned else math.inf


def lr_mismatch_at(step: int, observed: float, plan: LrSchedule, tolerance: float) -> LrMismatch | None:
    """How the observed rate of a step departs from the plan, None within the relative `tolerance`.

    stepped_per_epoch: the rate is the one planned for as many steps as epochs have gone by.
    """
    planned = lr_at(step, plan)
    if math.isclose(observed, planned, rel_tol=tolerance):
        return None
    by_epoch = lr_at(step // plan.steps_per_epoch, plan)
    per_epoch = plan.steps_per_epoch > 1 and math.isclose(observed, by_epoch, rel_tol=tolerance)
    cause: Literal["", "stepped_per_epoch"] = "stepped_per_epoch" if per_epoch else ""
    return LrMismatch(step=step, observed=observed, planned=planned, cause=cause)
