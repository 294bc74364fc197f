"""Which lines of a log are worth a look: how grave each is, which rank wrote it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Grade = Literal["info", "warning", "error"]
GRADES: tuple[Grade, ...] = ("info", "warning", "error")
WORDS: dict[Grade, str] = {"info": "", "warning": "warnings and errors", "error": "errors"}

ERROR = re.compile(r"error|traceback|exception|\bnan\b|killed|fatal|cannot|failed", re.IGNORECASE)
WARNING = re.compile(r"warn", re.IGNORECASE)
TRACEBACK = "Traceback (most recent call last)"
RANK = re.compile(r"^\[[A-Za-z_]+(\d+)\]: ?")
"""What torchrun puts before each line of a process."""


@dataclass(frozen=True)
class LogFilter:
    """What is shown: lines at least so grave, and of one rank or, when None, of all."""

    least: Grade = "info"
    rank: int | None = None

    @property
    def words(self) -> str:
        """It in words, empty when all is shown."""
        rank = "" if self.rank is None else f"rank {self.rank}"
        return ", ".join(word for word in (WORDS[self.least], rank) if word)

    def graver(self) -> LogFilter:
        """The next grade, and after errors all again."""
        return replace(self, least=GRADES[(GRADES.index(self.least) + 1) % len(GRADES)])

    def next_rank(self, lines: Sequence[str]) -> LogFilter:
        """The next rank that wrote something, and after the last all again."""
        ranks = sorted({rank for one in lines if (rank := rank_of(one)) is not None})
        later = [rank for rank in ranks if self.rank is None or rank > self.rank]
        return replace(self, rank=later[0] if later else None)

    def places(self, lines: Sequence[str]) -> list[int]:
        """The indices of the lines to show."""
        if not self.words:
            return list(range(len(lines)))
        wanted = GRADES[GRADES.index(self.least) :]
        ranks = [rank_of(one) for one in lines]
        return [
            i
            for i, grade in enumerate(grades(lines))
            if grade in wanted and (self.rank is None or ranks[i] == self.rank)
        ]


def rank_of(one: str) -> int | None:
    """The rank that wrote a line, None when torchrun does not say."""
    found = RANK.match(one)
    return int(found[1]) if found else None


def grades(lines: Sequence[str]) -> list[Grade]:
    """How grave each line is. All of a traceback is an error, to its exception's own line; ranks may be interleaved."""
    found: list[Grade] = []
    inside: set[int | None] = set()
    for one in lines:
        rank, text = rank_of(one), RANK.sub("", one)
        if text.startswith(TRACEBACK):
            inside.add(rank)
        elif rank in inside and not text.startswith((" ", "\t")):
            inside.discard(rank)
            found.append("error")
            continue
        found.append("error" if rank in inside or ERROR.search(text) else "warning" if WARNING.search(text) else "info")
    return found
