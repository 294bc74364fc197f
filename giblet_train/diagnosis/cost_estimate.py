"""Estimate the cost of a planned run from the step times of a measured run. Pure.

A step of the new run is assumed to take at least as long as a measured one, and at most in proportion to the work of a
process (its windows × the subjects' heads). Both bounds are reported, because neither was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import msgspec

from giblet_train.diagnosis.eta import pause_s
from giblet_train.schema.config import Config
from giblet_train.schema.records import DataMetric, RunMetric, StepMetric
from giblet_train.schema.schedule import default_steps_per_epoch, lr_schedule

FIRST_STEPS = 10
"""First steps (caches, compilation) that are left out if there are more."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Estimated cost of a planned run."""

    steps: int
    """Number of steps."""
    step_s: float
    """Measured seconds per step of the reference run."""
    work: float | None
    """Work of a process and step relative to the reference run; None if unknown."""
    low_s: float
    """Lower bound of wall time."""
    high_s: float
    """Upper bound of wall time."""
    processes: int
    """GPUs (on a CPU: processes) in use."""

    @property
    def hours(self) -> tuple[float, float]:
        """Return GPU-hours (on a CPU: process-hours), lower and upper bound."""
        return self.low_s * self.processes / 3600, self.high_s * self.processes / 3600


def cost_of(
    old: Config,
    new: Config,
    run: RunMetric,
    data: DataMetric,
    steps: Sequence[StepMetric],
) -> Cost | None:
    """Return the cost of `new`, estimated from a run of `old`; None if that run has too few steps."""
    seconds = [s.step_s for s in steps if s.step_s is not None]
    seconds = seconds[FIRST_STEPS:] or seconds
    if not seconds or not run.scored_trs_per_step:
        return None
    scored_trs_per_step = run.scored_trs_per_step * new.batch_size / old.batch_size
    per_epoch = new.steps_per_epoch or default_steps_per_epoch(data.train_trs, max(1, round(scored_trs_per_step)))
    total = new.num_epochs * per_epoch
    windows = (new.batch_size / new.distributed.world_size) / (old.batch_size / run.world_size)
    subjects = _subjects(old, new, data)
    work = None if subjects is None else windows * subjects
    step_s = fmean(seconds)
    between_s = new.num_epochs / new.validate_every * pause_s(steps, lr_schedule(old, run.steps_per_epoch))
    bounds = [step_s * total * factor + between_s for factor in (1.0, work or 1.0)]
    return Cost(
        steps=total,
        step_s=step_s,
        work=work,
        low_s=min(bounds),
        high_s=max(bounds),
        processes=new.distributed.world_size,
    )


def _subjects(old: Config, new: Config, data: DataMetric) -> float | None:
    """Return the ratio of the numbers of subjects; None where `all` is not resolved yet."""
    if new.data.mode == "cross_subject" or new.data.subjects == old.data.subjects:
        return 1.0
    return None if new.data.subjects == "all" else len(new.data.subjects) / len(data.subjects)
