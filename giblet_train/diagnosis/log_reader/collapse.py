"""Notice losses and gradients that stop being numbers: nan, infinite, or exactly 0 from one line to the next."""

from __future__ import annotations

import math
from collections import deque
from typing import Deque, Dict, NamedTuple, Optional

from giblet_train.diagnosis.log_reader.line_parser import Observation

LINES = 3
"""Consecutive lines that make a collapse."""
REMEMBERED = 20
CLEARLY_POSITIVE = 0.05
"""Median loss above which exactly 0 on the next line cannot be progress."""


class Collapse(NamedTuple):
    """A quantity that stopped being a number, and did not recover."""

    quantity: str
    """`training loss`, `validation loss` or `gradient norm`."""
    value: str
    """`nan`, `inf` or `exactly 0`."""
    epoch: Optional[int]
    step: Optional[int]
    n_lines: int
    """Lines since then."""
    from_start: bool
    """True if no number was ever printed before."""


class _Track:
    """Course of one quantity."""

    def __init__(self) -> None:
        self.recent: Deque[float] = deque(maxlen=REMEMBERED)
        self.value, self.n_lines = "", 0
        self.epoch: Optional[int] = None
        self.step: Optional[int] = None

    def add(self, number: float, epoch: Optional[int], step: Optional[int]) -> None:
        value = self._collapsed(number)
        if not value:
            self.value, self.n_lines = "", 0
            self.recent.append(number)
            return
        if not self.value:
            self.value, self.epoch, self.step, self.n_lines = value, epoch, step, 0
        self.n_lines += 1

    def _collapsed(self, number: float) -> str:
        if math.isnan(number):
            return "nan"
        if math.isinf(number):
            return "inf"
        if number != 0.0 or not self.recent:
            return ""
        if self.value == "exactly 0":
            return self.value
        middle = sorted(self.recent)[len(self.recent) // 2]
        return "exactly 0" if middle > CLEARLY_POSITIVE and min(self.recent) > 0.2 * middle else ""


class CollapseWatch:
    """Follows the losses and the gradient norm of a log."""

    def __init__(self) -> None:
        self._tracks: Dict[str, _Track] = {}

    def add(self, observation: Observation, epoch: Optional[int]) -> None:
        """Follow the values of a line of the given epoch."""
        for value in observation.values:
            kind, split = value.quantity.kind, value.quantity.split
            if kind == "grad_norm":
                name = "gradient norm"
            elif kind == "loss" and value.quantity.part is None:
                name = "validation loss" if split in ("validation", "test") else "training loss"
            else:
                continue
            self._tracks.setdefault(name, _Track()).add(value.number, epoch, observation.step)

    def result(self) -> Optional[Collapse]:
        """Return the collapse that began first and lasts until the end of the log; None without one."""
        order = ("training loss", "gradient norm", "validation loss")
        collapsed = [(name, self._tracks[name]) for name in order if name in self._tracks]
        lasting = [(name, track) for name, track in collapsed if track.n_lines >= LINES]
        if not lasting:
            return None
        name, track = lasting[0]
        return Collapse(name, track.value, track.epoch, track.step, track.n_lines, not track.recent)
