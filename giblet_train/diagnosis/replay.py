"""Replay a run's records prefix by prefix, as a live watcher would have read them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.schema.config import Config
from giblet_train.schema.records import AnyMetric, StepMetric


def prefixes(
    config: Config | None, metrics: Sequence[AnyMetric], first: int, last: int, stride: int = 1
) -> Iterator[tuple[int, Diagnosis]]:
    """Yield (steps taken, diagnosis) for growing parts of a run, from `first` steps to `last`.

    A part contains everything written before the next step, so the record of an epoch comes with its last step.
    """
    ends = [i for i, m in enumerate(metrics, 1) if isinstance(m, StepMetric)]
    for n in range(max(1, first), min(last, len(ends)) + 1, stride):
        end = ends[n] - 1 if n < len(ends) else len(metrics)
        yield n, diagnose(config, metrics[:end])
