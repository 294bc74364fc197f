"""Measure which part of a step waits for data, in logs that print both durations on each line, as timm does."""

from __future__ import annotations

import re
from collections import deque
from typing import Deque, NamedTuple, Optional, Tuple

RECENT_LINES = 200
FEWEST_LINES = 10
_SECONDS = (
    r"(\s?\(t\))?(?:\s?[:=]\s{0,3}|\s{1,4})(\d{1,6}\.\d{1,9})"
    r"(?=\s?(?:m?s|sec(?:onds?)?)\b|[\s,;|)\]}(]|$)(?:\s?(m?s|sec(?:onds?)?)\b)?"
)
_DATA = re.compile(
    r"(?<![\w-])(?:(data)|data[_ ]?(?:time|cost|wait|load(?:ing)?(?:[_ ]time)?)|reader_cost)"
    rf"{_SECONDS}(\s?\(\s?\d)?",
    re.IGNORECASE,
)
"""A wait. `data` alone may be a loss, as of a PINN: it needs a mark of time, a unit, or its average behind it."""
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
        self._is_bare = False

    def add(self, text: str) -> None:
        """Read the durations of a line of training."""
        lowercase = text.lower()
        if not ("data" in lowercase or "reader_cost" in lowercase) or _HELD_OUT.match(text):
            return
        data, step = _DATA.search(text), _STEP.search(text)
        if data is None or step is None or _is_in_ms(data[4]) != _is_in_ms(step[3]):
            return
        is_bare = data[1] is not None
        if not is_bare or data[2] or data[4] or data[5]:
            self._is_bare = is_bare
            self._pairs.append((float(data[3]), float(step[2])))

    def result(self) -> Optional[DataWait]:
        """Return the share of waiting; None for too few lines.

        If the wait is longer than the step, the printed step excludes it; but what is only called `data` is no wait
        then.
        """
        data, steps = sum(pair[0] for pair in self._pairs), sum(pair[1] for pair in self._pairs)
        if len(self._pairs) < FEWEST_LINES or not steps or (self._is_bare and data > steps):
            return None
        whole = steps if data <= steps else steps + data
        return DataWait(data / whole, len(self._pairs))


def _is_in_ms(unit: Optional[str]) -> bool:
    return unit is not None and unit.lower() == "ms"
