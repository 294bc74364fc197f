"""Read the whole history of a run: its own records, and those of the runs that it resumed.

A resumed run copies the records of the run before it into its own directory (`RunLogger.copy_history`), so a pulled
directory is complete. Directories of older versions have no copy; then the chain of `resumed_from` is followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import (
    AnyMetric,
    DataMetric,
    EpochMetric,
    EvaluationMetric,
    EventMetric,
    Metric,
    RunMetric,
    StepMetric,
    decode_metrics,
)
from giblet_train.schema.run_dir import RunDir

M = TypeVar("M", bound=Metric)
ENDINGS = ("failed", "early_stop")
"""Events of the end of a run, which a run that resumes it has left behind."""


def read_history(run_dir: RunDir) -> list[AnyMetric]:
    """Return all records of a run from its first step on. Raises ConfigError if it has none."""
    try:
        lines = run_dir.metrics.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"{run_dir.metrics} cannot be read: {error.strerror}.", "A run has this file once it has started."
        ) from None
    return with_earlier_runs(run_dir, decode_metrics(lines)[0])


def with_earlier_runs(run_dir: RunDir, metrics: Sequence[AnyMetric]) -> list[AnyMetric]:
    """Return a run's records behind those of the runs that it resumed, if it has no copies and they are next to it."""
    earlier = _resumed_run(run_dir) if first_step(metrics) > 0 else None
    return stitched(read_history(earlier), metrics) if earlier is not None else list(metrics)


def first_step(metrics: Sequence[AnyMetric]) -> int:
    """Return the first optimizer step that is recorded; 0 if none is."""
    return next((m.step for m in metrics if isinstance(m, StepMetric)), 0)


def stitched(earlier: Sequence[AnyMetric], later: Sequence[AnyMetric]) -> list[AnyMetric]:
    """Return the records of a run and of the one that resumed it as those of one run."""
    return renumbered([*before_step(earlier, first_step(later)), *later])


def source_names(resumed_from: str | None) -> list[str]:
    """Return the ids that the resumed run may have, the likeliest first: the parts of a path to its checkpoint."""
    return [name for name in reversed(re.split(r"[/\\]", resumed_from or "")) if name]


def before_step(metrics: Sequence[AnyMetric], step: int) -> list[AnyMetric]:
    """Return the records that a run resumed at a step continues: plan, data, and what happened before that step."""
    plan = next((m for m in metrics if isinstance(m, RunMetric)), None)
    per_epoch = plan.steps_per_epoch if plan else 1

    def continued(metric: AnyMetric) -> bool:
        if isinstance(metric, EpochMetric):
            return metric.epoch * per_epoch <= step
        if isinstance(metric, EventMetric):
            return metric.step < step and metric.name not in ENDINGS
        return isinstance(metric, (RunMetric, DataMetric)) or metric.step < step

    return [m for m in metrics if not isinstance(m, EvaluationMetric) and continued(m)]


def latest_epochs(epochs: Iterable[M]) -> list[M]:
    """Return the records of epochs in order; of an epoch that a resume repeated, the later one."""
    last_epochs: list[M] = []
    for epoch in epochs:
        while last_epochs and last_epochs[-1].step >= epoch.step:
            last_epochs.pop()
        last_epochs.append(epoch)
    return last_epochs


def renumbered(metrics: Sequence[AnyMetric], first: int = 0) -> list[AnyMetric]:
    """Return the records with consecutive numbers."""
    return [msgspec.structs.replace(metric, seq=first + i) for i, metric in enumerate(metrics)]


def _resumed_run(run_dir: RunDir) -> RunDir | None:
    """Return the directory of the run that this one resumed, if it is next to it."""
    try:
        source = run_dir.read_run().resumed_from
    except (ConfigError, DataError):
        return None
    siblings = (RunDir(run_dir.path.parent / name) for name in source_names(source))
    return next((s for s in siblings if s.run_id != run_dir.run_id and s.metrics.is_file()), None)
