"""Notice a training that becomes several times slower and stays so, in logs that print a rate or the time of a step."""

from __future__ import annotations

import re
from statistics import median
from typing import List, NamedTuple, Optional, Tuple

SLOWER = 3.0
"""Factor of a lasting loss of speed that is reported."""
FEWEST_LINES = 30
LASTING_SHARE = 0.1
"""Share of the lines, at the end, that must all be slow."""
MOST_LINES = 20_000
_RATE = re.compile(
    r"(\d[\d,]{0,12}(?:\.\d{1,6})?)\s?(?:img|images?|samples?|tok(?:ens)?|it|iters?|steps?|seq|examples?|frames?)"
    r"(?:/|\sper\s)s(?:ec(?:ond)?)?\b|(\d{1,6}(?:\.\d{1,6})?)\s?s(?:ec)?/(?:it|iter|step|batch|img)\b",
    re.IGNORECASE,
)


class Slowdown(NamedTuple):
    """A lasting loss of speed."""

    factor: float
    before: str
    """Typical speed before, as printed."""
    after: str
    where: str
    """Epoch and step of the first slow line, as far as they are counted; else the line."""


def has_speed(text: str) -> bool:
    """Return True if a line prints a rate or the time of a step."""
    return ("/" in text or " per " in text) and _RATE.search(text) is not None


class SpeedWatch:
    """Follows the speed that a log prints."""

    def __init__(self) -> None:
        self._speeds: List[Tuple[float, str, str]] = []

    def add(self, text: str, epoch: Optional[int], step: int, n_lines: int) -> None:
        """Read the speed in a line of the training."""
        match = _RATE.search(text)
        if match is None or len(self._speeds) >= MOST_LINES:
            return
        number = float((match[1] or match[2]).replace(",", ""))
        if number > 0:
            counters = ([f"epoch {epoch}"] if epoch is not None else []) + ([f"step {step}"] if step else [])
            where = ", ".join(counters) or f"line {n_lines}"
            self._speeds.append((number if match[1] else 1 / number, match[0], where))

    def result(self) -> Optional[Slowdown]:
        """Return the slowdown in which a log ends; None without one."""
        n = len(self._speeds)
        if n < FEWEST_LINES:
            return None
        usual = median(speed for speed, _, _ in self._speeds[: n // 4])
        since = next((i for i in range(n, 0, -1) if self._speeds[i - 1][0] * SLOWER > usual), 0)
        slow, fast = self._speeds[since:], self._speeds[:since]
        is_lasting = len(slow) >= max(5, LASTING_SHARE * n) and len(fast) >= FEWEST_LINES // 3
        if not is_lasting:
            return None
        typical = sorted(slow)[len(slow) // 2]
        before = sorted(fast)[len(fast) // 2]
        return Slowdown(before[0] / typical[0], before[1], typical[1], slow[0][2])
