"""What a rule looks at, and what it may say: a run's records sorted by kind, with its plan and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import msgspec

from giblet_train.schema.config import COMPONENTS, Config, WatchConfig
from giblet_train.schema.health import Health
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
"""What a block of a training course holds; an epoch, where that is shorter."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. confidence: 0 to 1. evidence: the numbers that show it. action: what to do about it."""

    cause: str = ""
    """Name of the rule; `@rule` fills it in."""
    confidence: float
    sentence: str
    evidence: dict[str, Any]
    action: str


class RunHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the rules see it. Without a configuration the plan is unknown; without `run`, so is a step's epoch."""

    config: Config | None
    run: RunMetric | None
    data: DataMetric | None
    steps: tuple[StepMetric, ...]
    epochs: tuple[EpochMetric, ...]
    events: tuple[EventMetric, ...]
    evaluation: EvaluationMetric | None
    health: Health | None
    log_tail: tuple[str, ...]

    @property
    def watch(self) -> WatchConfig:
        """The thresholds: the run's own, or giblet's."""
        return self.config.watch if self.config else WatchConfig()

    @property
    def plan(self) -> LrSchedule | None:
        """The planned schedule, where configuration and steps per epoch are known."""
        return lr_schedule(self.config, self.run.steps_per_epoch) if self.config and self.run else None

    @property
    def start_total(self) -> float | None:
        """The total of the best constant predictor."""
        return self.run.start_total or None if self.run else None

    @property
    def components(self) -> tuple[str, ...]:
        """The components that count in the total, as far as configuration and records tell."""
        weights = self.config.component_weights() if self.config else dict.fromkeys(COMPONENTS, 1.0)
        return tuple(c for c in COMPONENTS if weights[c] > 0 and (not self.steps or c in self.steps[-1].loss))

    @property
    def train_totals(self) -> list[tuple[int, float]]:
        """(epoch, training total) of every epoch that has a finite one."""
        return [(e.epoch, e.train.total) for e in self.epochs if e.train.total is not None]

    @property
    def validation_totals(self) -> list[tuple[int, float]]:
        """(epoch, validation total) of every finite validation."""
        return [(e.epoch, e.validation.total) for e in self.epochs if e.validation and e.validation.total is not None]

    @property
    def block_losses(self) -> list[tuple[float, float]]:
        """(epochs gone by, mean total) of consecutive blocks of steps after warm-up: long epochs are told in parts."""
        plan = self.plan
        if plan is None:
            return []
        n = min(COURSE_STEPS, plan.steps_per_epoch)
        warmed = [(s.step, s.total) for s in self.steps if s.step >= plan.warmup_steps and s.total is not None]
        blocks = [warmed[i : i + n] for i in range(0, len(warmed) - n + 1, n)]
        return [((b[-1][0] + 1) / plan.steps_per_epoch, fmean(v for _, v in b)) for b in blocks]

    @property
    def recent_steps(self) -> tuple[StepMetric, ...]:
        """The last `recent_steps` steps; none while there are fewer."""
        n = self.watch.recent_steps
        return self.steps[-n:] if len(self.steps) >= n else ()

    @property
    def num_epochs(self) -> int | None:
        """How many epochs are planned."""
        return self.config.num_epochs if self.config else None


def case_of(
    config: Config | None, metrics: Sequence[AnyMetric], health: Health | None = None, log_tail: Sequence[str] = ()
) -> RunHistory:
    """Sort a run's metrics by kind; of the records that say how it stands, the newest counts."""
    last: dict[type, Any] = {type(m): m for m in metrics}
    return RunHistory(
        config=config,
        run=last.get(RunMetric),
        data=last.get(DataMetric),
        steps=tuple(m for m in metrics if isinstance(m, StepMetric)),
        epochs=tuple(m for m in metrics if isinstance(m, EpochMetric)),
        events=tuple(m for m in metrics if isinstance(m, EventMetric)),
        evaluation=last.get(EvaluationMetric),
        health=health,
        log_tail=tuple(log_tail),
    )


def median_or_none(values: Sequence[float | None]) -> float | None:
    """The median of the numbers among them, None when there is none."""
    known = [v for v in values if v is not None]
    return median(known) if known else None


def format_loss(value: float) -> str:
    """A loss in words: `275,959.0`, `0.9123`."""
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
