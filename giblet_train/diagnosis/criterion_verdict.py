"""Records that criteria are judged from, and the verdict on one criterion. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from giblet_train.diagnosis.run_start import newest_plan
from giblet_train.schema.config import COMPONENTS, Config
from giblet_train.schema.health import Health
from giblet_train.schema.history import latest_epochs
from giblet_train.schema.records import AnyMetric, EpochMetric, EvaluationMetric, EventMetric, RunMetric, StepMetric
from giblet_train.schema.schedule import LrSchedule, lr_schedule

Status = Literal["pass", "on_track", "at_risk", "fail"]
COMPLETED = "completed"
"""Name of the implicit first criterion."""


class CriterionVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict on one criterion, with its numbers."""

    name: str
    """Name of the criterion."""
    status: Status
    """Whether it is met."""
    needed: float | None
    """Value that must be reached."""
    seen: float | None
    """Value that was observed."""
    sentence: str
    """The arithmetic in words."""
    deadline_epoch: int | None = None
    """Last epoch from which the best rate so far would still reach the value."""
    pace_needed: float | None = None
    """Decrease per epoch that is needed from now on."""
    pace_seen: float | None = None
    """Decrease per epoch over the last third."""


class RunMetrics(msgspec.Struct, frozen=True):
    """Metrics of a run, sorted by kind."""

    config: Config
    """Configuration of the run."""
    run: RunMetric | None
    """Newest plan, with the first losses of the first start."""
    steps: tuple[StepMetric, ...]
    """Optimizer steps in order."""
    epochs: tuple[EpochMetric, ...]
    """Epochs in order."""
    events: tuple[EventMetric, ...]
    """Events in order."""
    evaluation: EvaluationMetric | None
    """Final evaluation."""
    health: Health | None
    """How the run is, or how it ended; None if unknown, which counts as live."""

    @property
    def plan(self) -> LrSchedule | None:
        """Return the planned learning rates, if known."""
        return lr_schedule(self.config, self.run.steps_per_epoch) if self.run else None

    @property
    def ended(self) -> bool:
        """Return True if no more metrics will follow."""
        return self.health is not None and not self.health.live

    @property
    def last_epoch(self) -> int:
        """Return the number of the last epoch that has ended."""
        return self.epochs[-1].epoch if self.epochs else 0

    @property
    def epochs_left(self) -> int:
        """Return the number of planned epochs that are left."""
        return max(0, self.config.num_epochs - self.last_epoch)

    @property
    def components(self) -> tuple[str, ...]:
        """Return the components that the run trains, as far as known."""
        return trained_components(self.config, self.steps, self.epochs)

    @property
    def stopped_early(self) -> bool:
        """Return True if early stopping ended training at the last epoch."""
        return any(e.name == "early_stop" and e.epoch >= self.last_epoch for e in self.events)

    @property
    def trained_fully(self) -> bool:
        """Return True if all planned epochs have ended, or early stopping ended training."""
        return bool(self.epochs) and (self.epochs_left == 0 or self.stopped_early)


def trained_components(
    config: Config | None, steps: Sequence[StepMetric], epochs: Sequence[EpochMetric] = ()
) -> tuple[str, ...]:
    """Return the components with a weight in the total that occur in the newest losses; all weighted ones before those.

    A study without sound or annotations has no such loss, although the configuration gives it a weight.
    """
    weights = config.component_weights() if config else dict.fromkeys(COMPONENTS, 1.0)
    newest = steps[-1].loss if steps else epochs[-1].train.loss if epochs else {}
    losses = newest or weights
    return tuple(c for c, weight in weights.items() if weight > 0 and c in losses)


def observe(config: Config, metrics: Sequence[AnyMetric], health: Health | None = None) -> RunMetrics:
    """Sort metrics by kind."""
    return RunMetrics(
        config,
        newest_plan(metrics),
        tuple(m for m in metrics if isinstance(m, StepMetric)),
        tuple(latest_epochs(m for m in metrics if isinstance(m, EpochMetric))),
        tuple(m for m in metrics if isinstance(m, EventMetric)),
        next((m for m in reversed(metrics) if isinstance(m, EvaluationMetric)), None),
        health,
    )
