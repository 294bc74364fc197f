"""Classify the lines of a log by severity and by the rank that wrote them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from giblet_tui.dashboard.model.log_steps import EPOCH

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
WORDS: dict[Severity, str] = {"info": "", "warning": "warnings and errors", "error": "errors"}

ERROR = re.compile(r"error|traceback|exception|\bnan\b|killed|fatal|cannot|failed", re.IGNORECASE)
WARNING = re.compile(r"warn", re.IGNORECASE)
NAN = re.compile(r"\bnan\b", re.IGNORECASE)
TRACEBACK = "Traceback (most recent call last)"
RANK = re.compile(r"^\[[A-Za-z_]+(\d+)\]: ?")
"""Prefix that torchrun puts before each line of a process."""


@dataclass(frozen=True)
class LogFilter:
    """Which lines are shown."""

    least: Severity = "info"
    """The lowest severity that is shown."""
    rank: int | None = None
    """The rank whose lines are shown; None for all."""

    @property
    def words(self) -> str:
        """Return the filter in words, empty if every line is shown."""
        rank = "" if self.rank is None else f"rank {self.rank}"
        return ", ".join(word for word in (WORDS[self.least], rank) if word)

    def next_severity(self) -> LogFilter:
        """Return the filter for the next severity; after errors, for all lines."""
        return replace(self, least=SEVERITIES[(SEVERITIES.index(self.least) + 1) % len(SEVERITIES)])

    def next_rank(self, lines: Sequence[str]) -> LogFilter:
        """Return the filter for the next rank that wrote something; after the last, for all ranks."""
        ranks = sorted({rank for line in lines if (rank := rank_of(line)) is not None})
        later = [rank for rank in ranks if self.rank is None or rank > self.rank]
        return replace(self, rank=later[0] if later else None)

    def matching(self, lines: Sequence[str]) -> list[int]:
        """Return the indices of the lines to show."""
        if not self.words:
            return list(range(len(lines)))
        severities = SEVERITIES[SEVERITIES.index(self.least) :]
        ranks = [rank_of(line) for line in lines]
        return [
            index
            for index, severity in enumerate(severities_of(lines))
            if severity in severities and (self.rank is None or ranks[index] == self.rank)
        ]


def rank_of(line: str) -> int | None:
    """Return the rank that wrote a line, None if torchrun did not say."""
    match = RANK.match(line)
    return int(match[1]) if match else None


def severities_of(lines: Sequence[str]) -> list[Severity]:
    """Return the severity of each line.

    All of a traceback is an error, to the line of its exception; ranks may be interleaved. An error after which
    training made progress was survived: it counts as a warning.
    """
    severities = _as_written(lines)
    last_progress = max((i for i, line in enumerate(lines) if _is_progress(line)), default=0)
    return [
        "warning" if severity == "error" and index < last_progress and not _is_progress(lines[index]) else severity
        for index, severity in enumerate(severities)
    ]


def _as_written(lines: Sequence[str]) -> list[Severity]:
    severities: list[Severity] = []
    in_traceback: set[int | None] = set()
    for line in lines:
        rank, text = rank_of(line), RANK.sub("", line)
        if text.startswith(TRACEBACK):
            in_traceback.add(rank)
        elif EPOCH.search(text):
            in_traceback.discard(rank)
        elif rank in in_traceback and not text.startswith((" ", "\t")):
            in_traceback.discard(rank)
            severities.append("error")
            continue
        is_error = rank in in_traceback or ERROR.search(text)
        severities.append("error" if is_error else "warning" if WARNING.search(text) else "info")
    return severities


def _is_progress(line: str) -> bool:
    """Return True if the line reports the end of an epoch with finite losses."""
    return EPOCH.search(line) is not None and NAN.search(line) is None
