"""What one line of a log shows of a training."""

from __future__ import annotations

from typing import NamedTuple, Optional, Tuple

from giblet_train.diagnosis.log_reader.key_names import Quantity


class Value(NamedTuple):
    """A number printed in a line, with its meaning."""

    quantity: Quantity
    number: float
    """May be nan or infinite."""
    average: Optional[float] = None
    """Running average printed in parentheses after the number."""


class Observation(NamedTuple):
    """Everything that one line shows of a training."""

    values: Tuple[Value, ...] = ()
    epoch: Optional[float] = None
    """Epoch number; fractional in Hugging Face logs. None if the line has none."""
    n_epochs: Optional[int] = None
    step: Optional[int] = None
    n_steps: Optional[int] = None
    """Steps per epoch, where the line prints `step/steps`."""
    kind: str = "line"
    """`line`, `step` (one of several lines per epoch), `round` (of a boosted model), `bar` or `keras` (progress bars),
    `record` (dict, table row)."""
    unreadable: bool = False
    """True if the line prints a loss whose number cannot be read."""
    final: bool = False
    """True for a summary of the whole training, which is no point of its curve."""
    fractional: bool = False
    """True if the epoch counts fractions, as in Hugging Face records."""
