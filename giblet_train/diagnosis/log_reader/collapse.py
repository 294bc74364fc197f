"""Notice losses and gradients that stop being numbers: nan, infinite, or exactly 0 from one line to the next."""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Deque, Dict, NamedTuple, Optional

from giblet_train.diagnosis.log_reader.observation import Observation

_TOTAL = "training loss"
_VALIDATION = "validation loss"
LINES = 3
"""Consecutive lines that make a collapse."""
REMEMBERED = 20
NUMBERS_BEFORE = 5
"""Losses that must precede a loss of exactly 0 for it to be suspicious."""
EXHAUSTED_SCALE = 1.0
OVERFLOWS = 10
"""Consecutive gradient overflows after which a loss scale at or below EXHAUSTED_SCALE cannot recover."""
CLEARLY_POSITIVE = 0.05
"""Median loss above which exactly 0 on the next line cannot be progress."""
_OVERFLOW = re.compile(
    r"overflow.*(?:reducing(?: loss scale)? to|loss scale:?)\s*(\d[\d.]{0,30}(?:e[+-]?\d{1,3})?)", re.IGNORECASE
)


_SCALE = re.compile(
    r"(?:\b(?:loss|grad|amp|gradient)[_ ]?scaler?|\bscaler|(?<![a-z][ _])\bscale)"
    r"\s{0,3}[:=]?\s{0,3}(\d[\d.]{0,30}(?:e[+-]?\d{1,3})?)",
    re.IGNORECASE,
)
"""A loss scale that is printed with the loss. Behind another word, as in `noise scale`, it is another quantity."""
BACKOFF = 0.6
"""Ratio of two printed scales up to which the second one is halved after an overflow, but for rounding."""


class Collapse(NamedTuple):
    """A quantity that stopped being a number, and did not recover."""

    quantity: str
    """`training loss`, `validation loss`, `gradient norm` or `loss scale`; a part's loss in a log without a total."""
    value: str
    """`nan`, `inf`, `exactly 0` or `exhausted`."""
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

    def add(self, number: float, epoch: Optional[int], step: Optional[int], per_step: bool) -> None:
        value = self._collapsed(number, per_step)
        if not value:
            self.value, self.n_lines = "", 0
            self.recent.append(number)
            return
        if not self.value:
            self.value, self.epoch, self.step, self.n_lines = value, epoch, step, 0
        self.n_lines += 1

    def _collapsed(self, number: float, per_step: bool) -> str:
        if math.isnan(number):
            return "nan"
        if math.isinf(number):
            return "inf"
        if number != 0.0 or len(self.recent) < NUMBERS_BEFORE or not per_step:
            return ""
        if self.value == "exactly 0":
            return self.value
        middle = sorted(self.recent)[len(self.recent) // 2]
        return "exactly 0" if middle > CLEARLY_POSITIVE and min(self.recent) > 0.2 * middle else ""


class CollapseWatch:
    """Follows the losses and the gradient norm of a log."""

    def __init__(self) -> None:
        self._tracks: Dict[str, _Track] = {}
        self._scale, self._n_overflows = 0.0, 0

    def add_text(self, text: str) -> None:
        """Follow the loss scale: in messages about gradient overflow (DeepSpeed, apex), or printed with the loss."""
        overflow = _OVERFLOW.search(text)
        scale = None if overflow else _SCALE.search(text)
        if overflow:
            self._scale, self._n_overflows = float(overflow[1]), self._n_overflows + 1
        elif scale:
            before, self._scale = self._scale, float(scale[1])
            # A scale that grows, stays or is annealed is that of a training whose steps are taken.
            self._n_overflows = self._n_overflows + 1 if self._scale <= BACKOFF * before else 0

    def add(self, observation: Observation, epoch: Optional[int]) -> None:
        """Follow the values of a line of the given epoch."""
        for value in observation.values:
            kind, split = value.quantity.kind, value.quantity.split
            if kind == "grad_norm":
                name = "gradient norm"
            elif kind == "loss" and split in ("validation", "test"):
                name = f"{_VALIDATION} of {value.quantity.part}" if value.quantity.part else _VALIDATION
            elif kind == "loss":
                name = f"{value.quantity.part} loss" if value.quantity.part else _TOTAL
            else:
                continue
            # From one epoch to the next, a loss may well fall below what four printed digits show; a part may be 0.
            is_loss = kind == "loss" and value.quantity.part is None
            per_step = (observation.fractional or observation.step is not None) and is_loss
            self._tracks.setdefault(name, _Track()).add(value.number, epoch, observation.step, per_step)

    def result(self) -> Optional[Collapse]:
        """Return the collapse that began first and lasts until the end of the log; None without one."""
        order = [_TOTAL, "gradient norm", _VALIDATION]
        parts = [name for name in self._tracks if name not in order]
        if _TOTAL not in self._tracks:
            order += [name for name in parts if not name.startswith(_VALIDATION)]
        if _VALIDATION not in self._tracks:
            order += [name for name in parts if name.startswith(_VALIDATION)]
        tracks = [(name, self._tracks[name]) for name in order if name in self._tracks]
        lasting = [(name, track) for name, track in tracks if track.n_lines >= LINES]
        if not lasting and self._n_overflows >= OVERFLOWS and self._scale <= EXHAUSTED_SCALE:
            return Collapse("loss scale", "exhausted", None, None, self._n_overflows, True)
        if not lasting:
            return None
        name, track = lasting[0]
        return Collapse(name, track.value, track.epoch, track.step, track.n_lines, not track.recent)
