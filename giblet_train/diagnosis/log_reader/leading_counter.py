"""Distinguish a counter in front of lines, such as `07: train=0.5 test=0.6`, from the rank that launchers print."""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

MOST_LINES = 12
"""Lines after which a number that counts up from each to the next is a counter: a node seldom has as many ranks."""
FEWEST = 3
_LINE = re.compile(r"\s*(\d{1,9})(?:\s{0,2}[:.)|]\s{0,4}|\s{2,8}|\t)(?=[A-Za-z(])(?!learn:)(.*)")
_LOSS = re.compile(
    r"(?<![\w-])(?:tr(?:ai)?n|val(?:id)?|test|dev|eval|(?:\w{1,30}[ _/])?loss|ce|xent|nll|mse|mae|bce|kl"
    r"|elbo|bp[cb]|ppl)"
    r"\s{0,3}[:=]?\s{1,4}[-+]?(?:\d*[.,]?\d|nan|inf)|(?<![\w-])[a-z_]{2,30}[:=][-+]?(?:\d*\.\d|nan|inf)",
    re.IGNORECASE,
)
_OTHER_COUNTER = re.compile(
    r"\b(?:ep|epoche?|step|iter\w*|batch|episode|update|round)s?\b\W{0,4}\d|\d+%\||\[\s*\d+\s*/\s*\d+\s*\]",
    re.IGNORECASE,
)


class LeadingCounter:
    """Holds the first lines with a number in front until it is known what that number is."""

    def __init__(self) -> None:
        self._lines: List[Tuple[int, str, str]] = []
        self._last: Optional[int] = None
        self._name = ""
        """`epoch` or `step` if it is a counter; empty while unknown."""
        self._is_rank = False

    def read(self, text: str) -> List[str]:
        """Return the lines that can be read now, with the name of their counter in front."""
        match = None if self._is_rank else _LINE.match(text)
        if match is None or not _LOSS.search(match[2]) or _OTHER_COUNTER.search(match[2]):
            return [*self.flush(), text] if self._lines else [text]
        number = int(match[1])
        if self._name:
            return [_with_name(self._name, number, match[2])]
        self._lines.append((number, match[2], text))
        if not self._counts_up():
            self._is_rank = True
        return self.flush() if self._is_rank or len(self._lines) >= MOST_LINES else []

    def flush(self) -> List[str]:
        """Return the lines that are kept."""
        lines, self._lines = self._lines, []
        if self._is_rank or len(lines) < FEWEST:
            return [text for _, _, text in lines]
        self._name = "epoch" if lines[1][0] - lines[0][0] == 1 else "step"
        return [_with_name(self._name, number, rest) for number, rest, _ in lines]

    def _counts_up(self) -> bool:
        numbers = [number for number, _, _ in self._lines]
        steps = {b - a for a, b in zip(numbers, numbers[1:])}
        return len(steps) <= 1 and all(step > 0 for step in steps)


def _with_name(name: str, number: int, rest: str) -> str:
    return f"{name} {number}: {rest}"
