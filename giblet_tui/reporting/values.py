"""Sum up the numbers of a command that are no losses: newest and best value, and whether more is better. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from giblet_train.schema.records import Number, ValuesMetric
from giblet_tui.monitor.snapshots import RunSnapshot

DIRECTIONS = {True: "higher is better", False: "lower is better", None: ""}
"""What a name says about its values, in words."""


class ValueSummary(NamedTuple):
    """A named number of a run."""

    name: str
    train: Number
    """Newest value of the training, or of no split; None if there is none or it was not finite."""
    validation: Number
    """Newest value of the validation."""
    best: Number
    """Best value, of the validation if it has any; None if the name does not say what is better."""
    best_at: int | None
    """Epoch of the best value, or step in a log that counts no epochs."""
    higher_is_better: bool | None
    """None if the name does not say so."""


def summaries(run: RunSnapshot) -> list[ValueSummary]:
    """Return each number of a run; those whose names say what is better come first."""
    if not run.values:
        return []
    names = dict.fromkeys(name for record in run.values for name in (*record.values, *record.validation))
    return sorted((_summary(name, run.values) for name in names), key=lambda value: value.higher_is_better is None)


def values_json(run: RunSnapshot) -> dict[str, Any]:
    """Return name -> newest and best values, for `ps --json` and `status --json`."""
    return {
        value.name: {key: item for key, item in value._asdict().items() if key != "name"} for value in summaries(run)
    }


def _rises(name: str) -> bool | None:
    from giblet_train.diagnosis.log_reader.metric_names import rises  # costs `ps --cached` as much as its own work

    return rises(name)


def _summary(name: str, records: Sequence[ValuesMetric]) -> ValueSummary:
    train = [(record, record.values[name]) for record in records if name in record.values]
    validation = [(record, record.validation[name]) for record in records if name in record.validation]
    rising = _rises(name)
    finite = [
        (value, record.step) for record, value in validation or train if value is not None and math.isfinite(value)
    ]
    best: tuple[Number, int | None] = (None, None)
    if finite and rising is not None:
        best = max(finite, key=lambda pair: pair[0]) if rising else min(finite, key=lambda pair: pair[0])
    return ValueSummary(name, train[-1][1] if train else None, validation[-1][1] if validation else None, *best, rising)
