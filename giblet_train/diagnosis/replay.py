"""A run's records looked at again from their beginning, as a watcher beside it would have seen them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.schema.config import Config
from giblet_train.schema.records import AnyMetric, StepMetric


def prefixes(
    config: Config | None, metrics: Sequence[AnyMetric], first: int, last: int, stride: int = 1
) -> Iterator[tuple[int, Diagnosis]]:
    """(steps taken, diagnosis) of growing parts of a run, from `first` steps to `last`.

    A part holds all that was written before the next step: an epoch's record comes with its last step.
    """
    ends = [i for i, m in enumerate(metrics, 1) if isinstance(m, StepMetric)]
    for n in range(max(1, first), min(last, len(ends)) + 1, stride):
        end = ends[n] - 1 if n < len(ends) else len(metrics)
        yield n, diagnose(config, metrics[:end])
