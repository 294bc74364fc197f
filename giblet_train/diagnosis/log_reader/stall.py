"""Notice a training that makes no progress while its log repeats the same lines, or until a scheduler ends it."""

from __future__ import annotations

import re
from collections import deque
from datetime import date
from typing import Deque, Dict, List, NamedTuple, Optional

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
FEWEST_MOVES = 3
"""Changes of a number, each to a value that it had not, from which it counts work, as in `decoded 300 utterances`."""
MOST_NUMBERS = 8
REMEMBERED_VALUES = 32
DAY_S = 86400.0
MIDNIGHT_S = DAY_S / 2
"""Fall of a clock without dates from which another day begins; lines of other ranks come a little late."""
OTHER_RANK_S = 3600.0
"""Time before midnight that a line of another rank may have after it."""
_TIME = re.compile(
    r"(?:(?P<year>\d{4})[-/.](?P<month>\d{2})[-/.](?P<day>\d{2})|(?P<d>\d{2})[-/.](?P<m>\d{2})[-/.](?P<y>\d{4})"
    r"|(?P<mm>\d{2})/?(?P<dd>\d{2})(?= ))?[T ]*(?P<hours>\d{1,2}):(?P<minutes>\d{2}):(?P<seconds>\d{2})(?P<pm> PM)?"
)
_COUNTER = re.compile(r"(?:step|iter\w*|epoch|batch|sample)s?\W{0,3}\d+|\d+\s?/\s?\d+", re.IGNORECASE)
_DIGITS = re.compile(r"\d+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:\s?(?:%|[KMGT]i?B\b|°?C\b|W\b))?")
"""A number, with its unit if that is one of a load, as of a GPU: such a number must grow to count work."""
_DURATION = re.compile(
    r"\d{4}-\d{2}-\d{2}|\b1\d{9}(?:\.\d+)?\b|\d+:\d{2}(?::\d{2})?(?:[.,]\d+)?"
    r"|\d+(?:\.\d+)?\s?(?:ms|[Ss]ec(?:ond)?s?|[Mm]in(?:ute)?s?|[Hh](?:ou)?rs?|[Hh]ours?|[Dd]ays?|[smhd])\b"
    r"|(?i:\b\w*(?:time|elapsed|waited|uptime|idle|age|duration|since|timestamp|ts)\W{0,3}\d+(?:\.\d+)?)"
)
"""A time or a duration, which passes without any work."""
_WAITS = re.compile(
    r"\b(?:heart ?beat|keep-?alive|ping|alive|idle|wait(?:ing|s)?|still|hung|stuck|attempt|retry\w*|poll\w*)\b", re.I
)
"""A line that says itself that its numbers count no work."""


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
        self._calendar = Calendar()
        self._last, self._progress = 0.0, 0.0
        self._since = ""
        self._kinds: Dict[str, _Kind] = {}
        self._until = ""

    def add(self, line: LogLine, is_progress: bool) -> None:
        """Read a line with a time; others show nothing."""
        is_cancel = not is_progress and CANCELLED.search(line.text) is not None
        at = self._calendar.seconds(line.at or (line.text if is_cancel else ""))
        if at is None:
            if is_progress:
                self._kinds = {}
            return
        self._last = at
        if is_progress:
            if self._since:
                self._gaps.append(at - self._progress)
            self._progress, self._since, self._kinds = at, line.at, {}
        elif self._since:
            self._add_other(line, is_cancel)

    def _add_other(self, line: LogLine, is_cancel: bool) -> None:
        """Count a line that is no progress of the training; one that counts other work is progress of the program."""
        name = _kind(line.text)
        kind = self._kinds.get(name)
        if kind is None and len(self._kinds) == MOST_KINDS:
            return
        kind = self._kinds.setdefault(name, _Kind())
        if kind.counts_work(line.text):
            self._progress, self._since = self._last, line.at
            return
        kind.n_lines += FEWEST_LINES if is_cancel else 1
        self._until = line.at

    def result(self) -> Optional[Stall]:
        """Return the stall in which the log ends; None without one."""
        n_lines = max((kind.n_lines for kind in self._kinds.values()), default=0)
        if len(self._gaps) < FEWEST_GAPS or n_lines < FEWEST_LINES:
            return None
        seconds, usual = self._last - self._progress, sorted(self._gaps)[len(self._gaps) // 2]
        if seconds < max(SHORTEST_S, LONG_PAUSES * usual, LONGEST_PAUSES * max(self._gaps)):
            return None
        return Stall(seconds, usual, self._since, self._until or "the end")


class _Kind:
    """Lines that differ in their numbers only."""

    def __init__(self) -> None:
        self.n_lines = 0
        self._numbers: List[_Number] = []

    def counts_work(self, text: str) -> bool:
        """Return True if a number of the line has moved on, as it did in each line of this kind before."""
        if _WAITS.search(text):
            return False
        texts = _NUMBER.findall(_DURATION.sub("", text))[:MOST_NUMBERS]
        if len(texts) != len(self._numbers):
            self._numbers = [_Number() for _ in texts]
        # Each number has to be read, also behind one that has moved.
        moves = [number.has_moved(value) for number, value in zip(self._numbers, texts)]
        return any(moves)


class _Number:
    """Values of a number, line by line."""

    def __init__(self) -> None:
        self._values: Deque[str] = deque(maxlen=REMEMBERED_VALUES)
        self._n_moves, self._returns = 0, False

    def has_moved(self, value: str) -> bool:
        """Return True if the number has another value than before, and never came back, as a load does."""
        if self._values and value == self._values[-1]:
            return False
        has_fallen = not value[-1].isdigit() and bool(self._values) and _size(value) < _size(self._values[-1])
        self._returns = self._returns or has_fallen or value in self._values
        self._n_moves += bool(self._values)
        self._values.append(value)
        return self._n_moves >= FEWEST_MOVES and not self._returns


def _size(value: str) -> float:
    """Return a number without its unit."""
    return float(value.rstrip(" %°KMGTiBCW"))


def _kind(text: str) -> str:
    """Return a line without numbers that may change while nothing progresses; its counters stay."""
    counters = _COUNTER.findall(text)
    return "".join([_DIGITS.sub("#", _COUNTER.sub("", text)), *counters])


class Calendar:
    """Converts printed times to seconds, from an origin that depends on how much of a date the log prints."""

    def __init__(self) -> None:
        self._has_years: Optional[bool] = None
        self._is_leap_year = False
        self._year_start, self._day = 0, 0
        self._clock: Optional[float] = None

    def seconds(self, text: str) -> Optional[float]:
        """Return a printed time in seconds; a log whose first time has no year is followed by its days or clock."""
        match = _TIME.search(text)
        if match is None:
            return None
        clock = 3600.0 * int(match["hours"]) + 60.0 * int(match["minutes"]) + float(match["seconds"])
        clock += 12 * 3600.0 if match["pm"] and int(match["hours"]) < 12 else 0.0
        year, month, day = match["year"] or match["y"], match["month"] or match["m"], match["day"] or match["d"]
        if self._has_years is None:
            self._has_years = bool(year)
        try:
            if self._has_years and year:
                self._day = date(int(year), int(month), int(day)).toordinal()
            elif match["mm"]:
                self._day = self._day_of_year(int(match["mm"]), int(match["dd"]))
            else:
                self._day += self._days_passed(clock)
        except ValueError:
            return None
        self._clock = clock
        return DAY_S * self._day + clock

    def _days_passed(self, clock: float) -> int:
        """Return by how many days the date changes if only the clock is printed: 1 at midnight, -1 for a late line."""
        change = clock - self._clock if self._clock is not None else 0.0
        return 1 if change < -MIDNIGHT_S else -1 if change > DAY_S - OTHER_RANK_S and self._day > 0 else 0

    def _day_of_year(self, month: int, day: int) -> int:
        """Return a day, counted on over the end of a year; a year is a leap year if its 29 February is printed."""
        self._is_leap_year = self._is_leap_year or (month, day) == (2, 29)
        n_days = 366 if self._is_leap_year else 365
        of_year = date(2000 if self._is_leap_year else 2001, month, day).timetuple().tm_yday
        change = self._year_start + of_year - self._day
        if self._clock is not None and change < -n_days / 2:
            self._year_start, self._is_leap_year = self._year_start + n_days, False
        return self._year_start + of_year
