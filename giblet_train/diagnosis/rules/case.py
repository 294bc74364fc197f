"""Input and output of the diagnosis rules: a run's records sorted by kind, and a finding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import msgspec

from giblet_train.diagnosis.criterion_verdict import trained_components
from giblet_train.diagnosis.log_reader.reader import TrainingLog, read_lines
from giblet_train.diagnosis.run_start import newest_plan
from giblet_train.schema.config import Config, WatchConfig
from giblet_train.schema.health import Health
from giblet_train.schema.history import latest_epochs
from giblet_train.schema.records import (
    AnyMetric,
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    RunMetric,
    StepMetric,
)
from giblet_train.schema.schedule import LrSchedule, lr_schedule

COURSE_STEPS = 30
"""Steps per block of the training curve; an epoch, if that is shorter."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One cause that a rule reports."""

    cause: str = ""
    """Name of the rule; `@rule` fills it in."""
    confidence: float
    """Confidence from 0 to 1."""
    sentence: str
    """What is wrong, in one sentence."""
    evidence: dict[str, Any]
    """Numbers that show it."""
    action: str
    """What to do about it."""


class RunHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a run, sorted by kind: the input of all rules."""

    config: Config | None
    """Configuration; None if only a log is known, and then there is no plan."""
    run: RunMetric | None
    """Newest plan of the run."""
    data: DataMetric | None
    """Sizes, scales and split."""
    steps: tuple[StepMetric, ...]
    """Optimizer steps in order."""
    epochs: tuple[EpochMetric, ...]
    """Epochs in order."""
    events: tuple[EventMetric, ...]
    """Events in order."""
    evaluation: EvaluationMetric | None
    """Final evaluation."""
    health: Health | None
    """How the run is, or how it ended; None if unknown."""
    log_tail: tuple[str, ...]
    """Last lines of the log."""
    log: TrainingLog | None = None
    """What its log shows, where one was read."""
    run_id: str = ""
    """Id of the run; empty for a log of another program."""

    @property
    def watch(self) -> WatchConfig:
        """Return the thresholds of the run, or the default ones."""
        return self.config.watch if self.config else WatchConfig()

    @property
    def plan(self) -> LrSchedule | None:
        """Return the planned schedule, if configuration and steps per epoch are known."""
        return lr_schedule(self.config, self.run.steps_per_epoch) if self.config and self.run else None

    @property
    def start_total(self) -> float | None:
        """Return the total of the best constant prediction."""
        return self.run.start_total or None if self.run else None

    @property
    def components(self) -> tuple[str, ...]:
        """Return the components with a weight in the total, as far as known."""
        return trained_components(self.config, self.steps)

    @property
    def train_totals(self) -> list[tuple[int, float]]:
        """Return (epoch, training total) of every epoch with a finite total."""
        return [(e.epoch, e.train.total) for e in self.epochs if e.train.total is not None]

    @property
    def course(self) -> list[tuple[int, float]]:
        """Return (epoch, training total), in a log with few epochs (block of steps, total)."""
        blocks = self.log.step_blocks if self.log is not None and not self.steps else ()
        totals = [(row.epoch, row.train) for row in blocks if row.train is not None and math.isfinite(row.train)]
        return totals or self.train_totals

    @property
    def course_unit(self) -> str:
        """Return what `course` counts."""
        is_blocks = self.log is not None and not self.steps and (self.log.is_blocks or self.log.step_blocks)
        return "block" if is_blocks else "epoch"

    @property
    def validation_totals(self) -> list[tuple[int, float]]:
        """Return (epoch, validation total) of every finite validation."""
        return [(e.epoch, e.validation.total) for e in self.epochs if e.validation and e.validation.total is not None]

    @property
    def block_losses(self) -> list[tuple[float, float]]:
        """Return (epochs passed, mean total) of consecutive blocks of steps after the warm-up."""
        plan = self.plan
        if plan is None:
            return []
        n = min(COURSE_STEPS, plan.steps_per_epoch)
        steps_after_warmup = [
            (s.step, s.total) for s in self.steps if s.step >= plan.warmup_steps and s.total is not None
        ]
        blocks = [steps_after_warmup[i : i + n] for i in range(0, len(steps_after_warmup) - n + 1, n)]
        return [((b[-1][0] + 1) / plan.steps_per_epoch, fmean(v for _, v in b)) for b in blocks]

    @property
    def recent_steps(self) -> tuple[StepMetric, ...]:
        """Return the last `recent_steps` steps; empty while there are fewer."""
        n = self.watch.recent_steps
        return self.steps[-n:] if len(self.steps) >= n else ()

    @property
    def begins_at_start(self) -> bool:
        """Return True if the first records are those of the beginning of training, not of a rotated log."""
        if self.steps:
            return self.steps[0].step == 0
        first = [e.epoch for e in self.epochs[:2]]
        every = first[1] - first[0] if len(first) > 1 else 1
        return bool(first) and first[0] <= max(1, every)

    @property
    def stopped_early(self) -> bool:
        """Return True if early stopping has ended training, by its events or by what its log states."""
        is_stated = self.log is not None and self.log.end.statement == "early_stop"
        return is_stated or any(event.name == "early_stop" for event in self.events)

    @property
    def num_epochs(self) -> int | None:
        """Return the planned number of epochs."""
        return self.config.num_epochs if self.config else None


def case_of(
    config: Config | None,
    metrics: Sequence[AnyMetric],
    health: Health | None = None,
    log_tail: Sequence[str] = (),
    log: TrainingLog | None = None,
    run_id: str = "",
) -> RunHistory:
    """Sort a run's metrics by kind; of plan, data and evaluation the newest counts."""
    last: dict[type, Any] = {type(m): m for m in metrics}
    return RunHistory(
        config=config,
        run=newest_plan(metrics),
        data=last.get(DataMetric),
        steps=tuple(m for m in metrics if isinstance(m, StepMetric)),
        epochs=tuple(latest_epochs(m for m in metrics if isinstance(m, EpochMetric))),
        events=tuple(m for m in metrics if isinstance(m, EventMetric)),
        evaluation=last.get(EvaluationMetric),
        health=health,
        log_tail=tuple(log_tail),
        log=log if log is not None or not log_tail else read_lines(log_tail),
        run_id=run_id,
    )


def median_or_none(values: Sequence[float | None]) -> float | None:
    """Return the median of the values that are not None; None if there is none."""
    numbers = [v for v in values if v is not None]
    return median(numbers) if numbers else None
