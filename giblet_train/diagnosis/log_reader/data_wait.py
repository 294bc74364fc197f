"""Measure which part of a step waits for data, in logs that print both durations on each line, as timm does."""

from __future__ import annotations

import re
from collections import deque
from typing import Deque, NamedTuple, Optional, Tuple

RECENT_LINES = 200
FEWEST_LINES = 10
_SECONDS = r"(?:\s?\(t\))?(?:\s?[:=]\s{0,3}|\s{1,4})(\d{1,6}\.\d{1,9})(?=\s?s\b|[\s,;|)\]}(]|$)"
_DATA = re.compile(
    rf"(?<![\w-])(?:data(?:[_ ]?(?:time|cost|wait|load(?:ing)?(?:[_ ]time)?))?|reader_cost){_SECONDS}", re.IGNORECASE
)
_STEP = re.compile(rf"(?<![\w-])(?<!data )(?:(?:batch|step|iter)(?:[_ ]?(?:time|cost))?|time){_SECONDS}", re.IGNORECASE)
_HELD_OUT = re.compile(r"\s*(?:test|val|eval)\w*\b|.{0,40}\((?:test|val)\)", re.IGNORECASE)


class DataWait(NamedTuple):
    """Share of the time of recent steps that waited for data."""

    share: float
    n_lines: int


class DataWaitWatch:
    """Follows the durations that a log prints."""

    def __init__(self) -> None:
        self._pairs: Deque[Tuple[float, float]] = deque(maxlen=RECENT_LINES)

    def add(self, text: str) -> None:
        """Read the durations of a line of training."""
        lowered = text.lower()
        if not ("data" in lowered or "reader_cost" in lowered) or _HELD_OUT.match(text):
            return
        data, step = _DATA.search(text), _STEP.search(text)
        if data and step:
            self._pairs.append((float(data[1]), float(step[1])))

    def result(self) -> Optional[DataWait]:
        """Return the share of waiting; None for too few lines. A step shorter than its wait was printed without it."""
        data, steps = sum(pair[0] for pair in self._pairs), sum(pair[1] for pair in self._pairs)
        if len(self._pairs) < FEWEST_LINES or not steps:
            return None
        whole = steps if data <= steps else steps + data
        return DataWait(data / whole, len(self._pairs))
