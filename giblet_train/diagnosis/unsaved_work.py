"""Estimate the work that is not saved yet, and when the disk will be full. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import msgspec

from giblet_train.schema.config import Config
from giblet_train.schema.disk_usage import GIB, RECORD_BYTES, checkpoints_kept
from giblet_train.schema.health import duration
from giblet_train.schema.records import CheckpointRecord, StepMetric

PACE_STEPS = 200


class UnsavedWork(msgspec.Struct, frozen=True, kw_only=True):
    """Work that would be lost if the run were killed now."""

    steps: int
    """Steps since the newest intact checkpoint."""
    seconds: float
    """Time of those steps."""
    since: int | None
    """Step of that checkpoint; None if there is none."""

    @property
    def sentence(self) -> str:
        """Describe the loss. A run that is asked to stop saves first and loses nothing."""
        if self.since is None:
            return f"killed now, all {self.steps} steps would be lost ({duration(self.seconds)}): no checkpoint yet"
        return f"killed now, {self.steps} steps would be lost ({duration(self.seconds)}), since step {self.since}"


def unsaved_work(steps: Sequence[StepMetric], checkpoints: Sequence[CheckpointRecord]) -> UnsavedWork | None:
    """Return the work since the newest checkpoint; None before the first step. `giblet stop` saves it first."""
    if not steps:
        return None
    n_steps = steps[-1].step + 1
    saved_step = max((c.step for c in checkpoints if c.step <= n_steps), default=None)
    n_unsaved = n_steps - (saved_step or 0)
    return UnsavedWork(steps=n_unsaved, seconds=n_unsaved * _pace_s(steps), since=saved_step)


def disk_full_in_s(
    config: Config,
    steps: Sequence[StepMetric],
    checkpoints: Sequence[CheckpointRecord],
    steps_per_epoch: int,
    total_steps: int,
    free_gib: float,
) -> float | None:
    """Return the seconds until this run alone fills the disk; None if everything that it still writes fits.

    The number of checkpoints grows to keep_checkpoints, `last` and `best`, and one more while it is written.
    """
    if not steps or not checkpoints:
        return None
    size, n_steps = max(c.bytes for c in checkpoints), steps[-1].step + 1
    free = free_gib * GIB - size  # the next one is first written to a temporary file
    if free < 0:
        return 0.0
    missing = max(0, checkpoints_kept(config) - len(checkpoints))
    save_steps = config.save_every * steps_per_epoch
    per_step = (size / save_steps if missing else 0.0) + RECORD_BYTES
    n_bytes = min(missing * size, per_step * (total_steps - n_steps)) + RECORD_BYTES * max(0, total_steps - n_steps)
    if n_bytes <= free:
        return None
    return math.ceil(free / per_step) * _pace_s(steps)


def _pace_s(steps: Sequence[StepMetric]) -> float:
    """Return the seconds per recent step, including pauses between steps."""
    recent = steps[-PACE_STEPS:]
    if len(recent) > 1 and recent[-1].step > recent[0].step:
        return (recent[-1].at - recent[0].at) / (recent[-1].step - recent[0].step)
    return fmean([s.step_s or 0.0 for s in recent])
