"""Notice a training that makes no progress while its log repeats the same lines, or until a scheduler ends it."""

from __future__ import annotations

import re
from collections import deque
from datetime import date
from typing import Deque, Dict, NamedTuple, Optional

from giblet_train.diagnosis.log_reader.end_patterns import CANCELLED
from giblet_train.diagnosis.log_reader.line_prefix import LogLine

FEWEST_GAPS = 3
"""Pauses between signs of progress from which their usual length is known."""
REMEMBERED_GAPS = 50
LONG_PAUSES = 10.0
"""Pause in median pauses that is a stall, if it is also LONGEST_PAUSES times the longest one."""
LONGEST_PAUSES = 3.0
SHORTEST_S = 900.0
FEWEST_LINES = 5
"""Equal lines that show that the program still runs; the message of a scheduler that ends it counts as many."""
MOST_KINDS = 64
DATED = 86400.0 * 366
"""Seconds from which a time has a year; a log whose times have none is followed by its clock."""
_TIME = re.compile(
    r"(?:(?P<year>\d{4})[-/.](?P<month>\d{2})[-/.](?P<day>\d{2})|(?P<d>\d{2})[-/.](?P<m>\d{2})[-/.](?P<y>\d{4})"
    r"|(?P<mm>\d{2})/?(?P<dd>\d{2})(?= ))?[T ]*(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2})(?P<pm> PM)?"
)
_COUNTER = re.compile(r"(?:step|iter\w*|epoch|batch|sample)s?\W{0,3}\d+|\d+\s?/\s?\d+", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")


class Stall(NamedTuple):
    """A time without progress at the end of a log."""

    seconds: float
    usual_s: float
    """Median pause between signs of progress before."""
    since: str
    """Time of the last progress, as printed."""
    until: str
    """Time of the last line."""


class StallWatch:
    """Follows the times that are printed in front of lines."""

    def __init__(self) -> None:
        self._gaps: Deque[float] = deque(maxlen=REMEMBERED_GAPS)
        self._last, self._progress = 0.0, 0.0
        self._since = ""
        self._counts: Dict[str, int] = {}
        self._until = ""

    def add(self, line: LogLine, is_progress: bool) -> None:
        """Read a line with a time; others show nothing."""
        is_cancel = not is_progress and CANCELLED.search(line.text) is not None
        at = _seconds(line.at or (line.text if is_cancel else ""), self._last)
        if at is None:
            if is_progress:
                self._counts = {}
            return
        self._last = at
        if is_progress:
            if self._since:
                self._gaps.append(at - self._progress)
            self._progress, self._since, self._counts = at, line.at, {}
        elif self._since and len(self._counts) < MOST_KINDS:
            kind = _kind(line.text)
            self._counts[kind] = self._counts.get(kind, 0) + (FEWEST_LINES if is_cancel else 1)
            self._until = line.at

    def result(self) -> Optional[Stall]:
        """Return the stall in which the log ends; None without one."""
        n_lines = max(self._counts.values(), default=0)
        if len(self._gaps) < FEWEST_GAPS or n_lines < FEWEST_LINES:
            return None
        seconds, usual = self._last - self._progress, sorted(self._gaps)[len(self._gaps) // 2]
        if seconds < max(SHORTEST_S, LONG_PAUSES * usual, LONGEST_PAUSES * max(self._gaps)):
            return None
        return Stall(seconds, usual, self._since, self._until or "the end")


def _kind(text: str) -> str:
    """Return a line without numbers that may change while nothing progresses; its counters stay."""
    counters = _COUNTER.findall(text)
    return "".join([_DIGITS.sub("#", _COUNTER.sub("", text)), *counters])


def _seconds(text: str, last: float) -> Optional[float]:
    """Return a printed time in seconds; a clock without a date continues on the next day after midnight."""
    match = _TIME.search(text)
    if match is None:
        return None
    clock = 3600.0 * int(match["hours"]) + 60.0 * int(match["minutes"]) + float(match["seconds"])
    clock += 43200.0 if match["pm"] and int(match["hours"]) < 12 else 0.0
    year, month, day = match["year"] or match["y"], match["month"] or match["m"], match["day"] or match["d"]
    try:
        if year and (last == 0.0 or last >= DATED):
            return 86400.0 * date(int(year), int(month), int(day)).toordinal() + clock
    except ValueError:
        return None
    if match["mm"]:
        return 86400.0 * (31 * int(match["mm"]) + int(match["dd"])) + clock
    days = last // 86400.0  # of a clock without dates 0 before its first midnight
    return 86400.0 * (days + (clock < last - 86400.0 * days)) + clock
