"""What is at stake in a run: what a stop now would lose, and when its disk will be full. Pure."""

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
    """What would have to be done again if the run died now. since: the newest whole checkpoint's step, None: none."""

    steps: int
    seconds: float
    since: int | None

    @property
    def sentence(self) -> str:
        """In words; a run that is asked to stop saves first and loses nothing."""
        if self.since is None:
            return f"killed now, all {self.steps} steps would be lost ({duration(self.seconds)}): no checkpoint yet"
        return f"killed now, {self.steps} steps would be lost ({duration(self.seconds)}), since step {self.since}"


def unsaved_work(steps: Sequence[StepMetric], checkpoints: Sequence[CheckpointRecord]) -> UnsavedWork | None:
    """What no checkpoint holds; None before the first step. A `giblet stop` saves, and loses nothing of it."""
    if not steps:
        return None
    taken = steps[-1].step + 1
    saved = max((c.step for c in checkpoints if c.step <= taken), default=None)
    undone = taken - (saved or 0)
    return UnsavedWork(steps=undone, seconds=undone * _pace_s(steps), since=saved)


def disk_full_in_s(
    config: Config,
    steps: Sequence[StepMetric],
    checkpoints: Sequence[CheckpointRecord],
    steps_per_epoch: int,
    total_steps: int,
    free_gib: float,
) -> float | None:
    """Seconds until this run alone has filled the disk; None when what it still writes fits.

    Checkpoints grow in number up to keep_checkpoints beside `last` and `best`, one more while it is written.
    """
    if not steps or not checkpoints:
        return None
    size, done = max(c.bytes for c in checkpoints), steps[-1].step + 1
    free = free_gib * GIB - size  # the next one is written aside first
    if free < 0:
        return 0.0
    missing = max(0, checkpoints_kept(config) - len(checkpoints))
    save_steps = config.save_every * steps_per_epoch
    per_step = (size / save_steps if missing else 0.0) + RECORD_BYTES
    grown = min(missing * size, per_step * (total_steps - done)) + RECORD_BYTES * max(0, total_steps - done)
    if grown <= free:
        return None
    return math.ceil(free / per_step) * _pace_s(steps)


def _pace_s(steps: Sequence[StepMetric]) -> float:
    """Seconds of a recent step, what lies between them included."""
    recent = steps[-PACE_STEPS:]
    if len(recent) > 1 and recent[-1].step > recent[0].step:
        return (recent[-1].at - recent[0].at) / (recent[-1].step - recent[0].step)
    return fmean([s.step_s or 0.0 for s in recent])
