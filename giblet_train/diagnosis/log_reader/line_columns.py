"""Read lines whose words mean nothing here by their structure: the same template, a counter, and numbers.

A number is a counter by what it does: it grows by the same amount from one line to the next. A number is the loss by
its name, else as the sum of others, else because it comes first and falls.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate, groupby
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from giblet_train.diagnosis.log_reader.collapse import CollapseWatch
from giblet_train.diagnosis.log_reader.epoch_table import NAMELESS, EpochTable
from giblet_train.diagnosis.log_reader.key_names import (
    OTHER_QUANTITY,
    Quantity,
    other_of,
    quantity_of,
    single_split,
    split_of,
    words_of,
)
from giblet_train.diagnosis.log_reader.line_parser import in_nats
from giblet_train.diagnosis.log_reader.loss_parts import NOT_PARTS, part_weights
from giblet_train.diagnosis.log_reader.metric_names import is_metric
from giblet_train.diagnosis.log_reader.metric_watch import LOG_LIKELIHOOD, MetricCourse, MetricPoint
from giblet_train.diagnosis.log_reader.number_format import parse_number
from giblet_train.diagnosis.log_reader.observation import Observation, Value

MAX_KINDS = 64
"""Most kinds of lines that are kept."""
MAX_ROWS = 4096
"""Most lines of a kind that are kept; beyond that, every other one is dropped."""
MAX_NUMBERS = 32768
"""Most numbers of a kind that are kept: fewer lines, if they have many columns."""
FEWEST_ROWS = 4
STEADY = 0.8
"""Share of the steps of a counter that are equal."""
MOST_RESTARTS = 0.1
"""Restarts of a counter, relative to its lines, unless an outer counter moves on with each."""
FEWEST_COUNTED = 8
"""Lines with a counter and a loss after which a layout is known by its words."""
SLOWER = 2.0
"""Rise in the first half of a course, relative to that in the second, that no progress within an epoch has."""
MAX_COLUMNS = 64
NAME_CHARS = 80
"""Characters before a number among which its name is looked for."""
_NUMBERS = re.compile(
    r"(?<![\w@.])([-+]?(?:\.?\d(?:[\d.,'_]*\d)?(?:[eE][-+]?\d{1,3})?|(?:nan|inf(?:inity)?)(?![\w.]*\w)))",
    re.IGNORECASE,
)
_BAR = re.compile(r"\|[^|]*\|")
_JOINED_COUNTER = re.compile(r"^\s*([A-Za-z])(?=\d{1,9}\b)")
"""A letter joined with the counter at the beginning of a line, such as `e12`."""
_CLOCK = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:T(?=\d))?|\b\d{1,3}(?::\d{2}){1,2}(?:[.,]\d+)?\b")
_UNIT = re.compile(r"\s?(?:[%°]|(?:ms|s|secs?|seconds|min|h|[KMG]i?B|MB|it/s|s/it|W|C)\b)|[A-Za-z]")
"""What follows a number that is no loss."""
_NAME = re.compile(r"([^\W\d_](?:[^\W_]|[_./@-](?=\w)|[ ](?=[^\W\d_]))*)['\"]?\s*(?:[:=]+|->|→|is)?\s*['\"\[({|]*\s*$")
_NAME_BEHIND = re.compile(r"\s*([^\W\d_][\w@.-]{0,40})")
_LOSS_WORD = re.compile(
    r"loss|err|cost|nll|elbo|bpd|bpc|bpp|ppl|perpl|objective|\bobj\b|residual|energy|\bmse\b|\bmae\b|crit|misfit|resid|\bJ\b"
    r"|deviance|discrepancy|chi2|divergence",
    re.IGNORECASE,
)
_TOTAL_WORD = re.compile(r"tot|sum\b|overall|\ball\b|\bobj", re.IGNORECASE)
_NEGATIVE_WORDS = frozenset(("neg", "negative", "minus", "nll"))
_EPOCH_WORDS = frozenset(
    ("epoch", "epochs", "ep", "epoche", "epoque", "epoca", "round", "generation", "gen", "cycle", "pass")
)
_STEP_WORDS = frozenset(
    (
        *("it", "its", "iter", "iters", "iteration", "iterations", "step", "steps", "batch", "update", "updates"),
        *("episode", "i", "n", "t"),
    )
)
_OF_TIME_OR_SIZE = (NOT_PARTS - _STEP_WORDS - {"data", "min"}) | frozenset(
    ("wall", "clock", "secs", "seen", "left", "remaining", "params", "version", "line")
)
_HELD_OUT = re.compile(r"held|check|val|dev|\bcv\b|eval|test|unseen|\bout\b", re.IGNORECASE)


class Row(NamedTuple):
    """Numbers of one line."""

    place: int
    """Number of the line among those that are kept."""
    numbers: Tuple[str, ...]


class _Kind:
    """Lines that consist of the same words around numbers."""

    def __init__(self, literals: Tuple[str, ...], header: Tuple[str, ...]) -> None:
        self.literals = literals
        self.header = header
        """Names in the line above the first, if there are as many as numbers."""
        self.rows: List[Row] = []
        self._stride, self._n = 1, 0
        self._max_rows = min(MAX_ROWS, MAX_NUMBERS // self.n_columns)

    def add(self, row: Row) -> None:
        if self._n % self._stride == 0:
            self.rows.append(row)
        self._n += 1
        if len(self.rows) > self._max_rows:
            self.rows = self.rows[::2]
            self._stride *= 2

    @property
    def n_columns(self) -> int:
        return len(self.literals) - 1

    def column(self, place: int) -> List[str]:
        return [row.numbers[place] for row in self.rows]

    def name(self, place: int) -> str:
        """Return the name of a column: before its number, behind it, or above it; empty without one."""
        if self.header:
            return self.header[place]
        before = _NAME.search(self.literals[place][-NAME_CHARS:])
        if before:
            return before[1]
        begins_with_number = not any(map(str.isalpha, self.literals[0]))
        behind = _NAME_BEHIND.match(self.literals[place + 1]) if begins_with_number else None
        return behind[1] if behind else ""

    def is_measured(self, place: int) -> bool:
        """Return True for a column of numbers with fractions that may be a loss: no time, size or share."""
        return self._has_fractions(place) and not (_UNIT.match(self.literals[place + 1]) and not self.header)

    def may_be_score(self, place: int) -> bool:
        """Return True for a column of numbers with fractions or of percentages."""
        behind = self.literals[place + 1]
        return self._has_fractions(place) and (behind.lstrip().startswith("%") or not _UNIT.match(behind))

    def is_share(self, place: int) -> bool:
        """Return True for a column of percentages."""
        return self.literals[place + 1].lstrip().startswith("%")

    def _has_fractions(self, place: int) -> bool:
        if not _OF_TIME_OR_SIZE.isdisjoint(words_of(self.name(place))):
            return False
        texts = self.column(place)
        return sum(not text.lstrip("+-").isdigit() for text in texts) > len(texts) // 2

    @property
    def measures(self) -> List[int]:
        """Return the places of the numbers that may be losses: those with a name, or all if none has one."""
        places = [place for place in range(self.n_columns) if self.is_measured(place)]
        return [place for place in places if self.name(place)] or places

    @property
    def is_evaluation(self) -> bool:
        """Return True for lines about another split than the training's."""
        return _split_before(self) in ("validation", "test")

    def counters(self) -> "Tuple[Optional[int], Optional[int]]":
        """Return the places of (outer, inner) counters: of epochs and of steps in them; None where there is none."""
        whole = [place for place in range(self.n_columns) if self._is_whole(place)]
        single = [place for place in whole if _counts(self._integers(place))]
        for outer in whole:
            numbers = self._integers(outer)
            if len(set(numbers)) > 1 and sorted(numbers) == numbers and outer not in single:
                inner = next((place for place in whole if place != outer and self._restarts_with(place, numbers)), None)
                if inner is not None:
                    return outer, inner
        of_epochs = [place for place in single if self._last_word(place) in _EPOCH_WORDS]
        place = next(iter(of_epochs or single), None)
        if place is None:
            return None, None
        return (place, None) if self._counts_epochs(place) else (None, place)

    @property
    def counts(self) -> bool:
        """Return True if one of the numbers is a counter."""
        return any(place is not None for place in self.counters())

    def planned(self, place: Optional[int]) -> Optional[int]:
        """Return the number behind the slash of a counter, such as 50 of `3/50`; None without one."""
        if place is None or place + 1 >= self.n_columns or self.literals[place + 1].strip() not in ("/", "of"):
            return None
        totals = set(self.column(place + 1))
        return int(totals.pop()) if len(totals) == 1 and next(iter(self.column(place + 1))).isdigit() else None

    def _counts_epochs(self, place: int) -> bool:
        word = self._last_word(place)
        if word in _EPOCH_WORDS or word in _STEP_WORDS:
            return word in _EPOCH_WORDS
        return _usual_step(self._integers(place)) == 1

    def _last_word(self, place: int) -> str:
        return (words_of(self.name(place)) or ("",))[-1]

    def _is_whole(self, place: int) -> bool:
        if not _OF_TIME_OR_SIZE.isdisjoint(words_of(self.name(place))):
            return False
        has_unit = not self.header and re.match(r"[%A-Za-z]", self.literals[place + 1]) is not None
        return not has_unit and all(text.isdigit() and len(text) <= 12 for text in self.column(place))

    def _integers(self, place: int) -> List[int]:
        return [int(text) for text in self.column(place)]

    def _restarts_with(self, place: int, outer: Sequence[int]) -> bool:
        """Return True if a number counts up while the outer one stays, and begins again whenever it moves on."""
        groups = [
            [number for _, number in group]
            for _, group in groupby(zip(outer, self._integers(place)), key=lambda p: p[0])
        ]
        firsts = {group[0] for group in groups[1:]}
        return max(map(len, groups)) > 1 and len(firsts) == 1 and all(sorted(set(group)) == group for group in groups)


class LineColumns:
    """Keeps the numbers of lines that no words explain, until the layout is known."""

    def __init__(self) -> None:
        self._kinds: Dict[Tuple[str, ...], _Kind] = {}
        self._n_lines = 0
        self._n_counted = 0
        self._last_count: Tuple[Optional[float], Optional[int]] = (None, None)
        self._header: Tuple[str, ...] = ()
        self._table: Optional[EpochTable] = None
        self._of_lines = -1
        self.collapse = CollapseWatch()
        """The losses of the table."""

    @property
    def is_explained(self) -> bool:
        """Return True if words have explained several lines with different counters."""
        return self._n_counted > 1

    @property
    def is_needed(self) -> bool:
        """Return False if the words of the log are known."""
        return self._n_counted < FEWEST_COUNTED

    def add(self, text: str, observation: Optional[Observation]) -> bool:
        """Keep the numbers of a line. Return True if they count on from those of the lines before."""
        if not self.is_needed:
            return False
        count = (observation.epoch, observation.step) if observation is not None else (None, None)
        has_counter = count not in ((None, None), self._last_count)
        has_loss = observation is not None and any(
            v.quantity.kind in ("loss", "error", "reward") for v in observation.values
        )
        if has_counter and has_loss:
            self._n_counted, self._last_count = self._n_counted + 1, count
            if self._n_counted >= FEWEST_COUNTED:
                self._kinds.clear()
                return False
        text = _BAR.sub("| |", text) if "%|" in text else _JOINED_COUNTER.sub(r"\1 ", text)
        pieces = _NUMBERS.split(_CLOCK.sub("<time>", text))
        numbers = tuple(pieces[1::2])
        if not numbers or len(numbers) > MAX_COLUMNS:
            self._header = _names_above(text)
            return False
        literals = tuple(re.sub(r"\s+", " ", literal) for literal in pieces[::2])
        kind = self._kinds.get(literals)
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                self._drop_rare()
            has_header = len(self._header) == len(numbers) and not any(map(str.isalpha, "".join(literals)))
            kind = self._kinds[literals] = _Kind(literals, self._header if has_header else ())
        kind.add(Row(self._n_lines, numbers))
        self._n_lines += 1
        return _moves_on(kind.rows[-3:])

    def table(self) -> Optional[EpochTable]:
        """Return the course that the lines show; None if they show none."""
        if self._of_lines != self._n_lines:
            self._of_lines = self._n_lines
            self.collapse = CollapseWatch()
            self._table = _table(list(self._kinds.values()), self.collapse) if self.is_needed else None
        return self._table

    def unknown_names(self) -> Tuple[str, ...]:
        """Return the names of numbers that may be losses or metrics, but mean nothing here."""
        kinds = [kind for kind in self._kinds.values() if len(kind.rows) >= FEWEST_ROWS and kind.counts]
        names = [kind.name(place) for kind in kinds for place in kind.measures]
        return tuple(
            dict.fromkeys(name for name in names if name and quantity_of(name) is None and not is_metric(name))
        )

    def courses(self) -> Tuple[MetricCourse, ...]:
        """Return the courses of scores without the name of a metric.

        These are percentages, counts of right answers such as `91/100`, fitnesses, log-likelihoods, and numbers whose
        best is printed.
        """
        if not self.is_needed:
            return ()
        all_kinds = [kind for kind in self._kinds.values() if len(kind.rows) >= FEWEST_ROWS]
        kinds = [kind for kind in all_kinds if kind.counts]
        directions = {name: rises for kind in kinds for name, rises in _directions(kind)}
        courses = [_course(name, rises, kinds) for name, rises in directions.items()]
        courses += [course for kind in kinds for course in _counted_shares(kind)]
        return tuple(courses or _objective_courses(all_kinds))

    def _drop_rare(self) -> None:
        """Forget the kinds of which only one line was seen."""
        self._kinds = {literals: kind for literals, kind in self._kinds.items() if len(kind.rows) > 1}
        if len(self._kinds) >= MAX_KINDS:
            self._kinds.pop(min(self._kinds, key=lambda literals: len(self._kinds[literals].rows)))


def _names_above(text: str) -> Tuple[str, ...]:
    """Return the names in a line without numbers, which may stand above columns."""
    text = text.strip().lstrip("#").strip()
    for separator in ("|", "\t", ";", ","):
        if separator in text:
            return tuple(name.strip() for name in text.strip(separator).split(separator))
    return tuple(re.split(r"\s{2,}", text) if re.search(r"\s{2,}", text) else text.split())


def _usual_step(numbers: Sequence[int]) -> int:
    steps = Counter(b - a for a, b in zip(numbers, numbers[1:]))
    return steps.most_common(1)[0][0] if steps else 0


def _counts(numbers: Sequence[int]) -> bool:
    """Return True for numbers that grow by the same amount, and hardly ever begin again; or that double."""
    if len(numbers) < FEWEST_ROWS:
        return False
    if numbers[0] > 0 and all(b == 2 * a for a, b in zip(numbers, numbers[1:])):
        return True
    steps = [b - a for a, b in zip(numbers, numbers[1:])]
    usual = _usual_step(numbers)
    n_restarts = sum(step < 0 for step in steps)
    n_steady = sum(step == usual for step in steps)
    return usual > 0 and 0 not in steps and n_steady >= STEADY * len(steps) and n_restarts <= MOST_RESTARTS * len(steps)


def _moves_on(rows: Sequence[Row]) -> bool:
    """Return True if an integer has grown by the same amount twice, next to a number with a fraction."""
    if len(rows) < 3 or not any("." in text for text in rows[-1].numbers):
        return False
    columns = list(zip(*(row.numbers for row in rows)))
    whole = [list(map(int, column)) for column in columns if all(map(str.isdigit, column))]
    return any(c - b == b - a > 0 for a, b, c in whole)


def _table(kinds: Sequence[_Kind], collapse: CollapseWatch) -> Optional[EpochTable]:
    """Return the course in the kinds of lines that have a counter of their own, else in blocks below or above one."""
    kinds = [kind for kind in kinds if len(kind.rows) >= FEWEST_ROWS]
    measured = [kind for kind in kinds if kind.measures]
    counting_kinds = [kind for kind in measured if kind.counts]
    if counting_kinds and not all(kind.is_evaluation for kind in counting_kinds):
        return _filled(_lines(counting_kinds), counting_kinds, collapse)
    headings = [kind for kind in kinds if not kind.measures and kind.counts]
    for heading in sorted(headings, key=lambda kind: -len(kind.rows)):
        inside = [kind for kind in measured if abs(len(kind.rows) - len(heading.rows)) <= 1]
        if inside:
            return _filled(_blocks(heading, inside), inside, collapse)
    return None


def _directions(kind: _Kind) -> Iterator[Tuple[str, bool]]:
    """Yield (name, whether more is better) of numbers whose best so far is printed, and of shares that rise."""
    places = [place for place in range(kind.n_columns) if kind.may_be_score(place)]
    columns = {place: [_number(row, place) for row in kind.rows] for place in places}
    bests = [columns[place] for place in places if "best" in words_of(kind.name(place))]
    has_best = {
        place: rises
        for place in places
        for best in bests
        for rises in (True, False)
        if best is not columns[place] and best == list(accumulate(columns[place], max if rises else min))
    }
    rises_like_others = any(has_best.values())
    for place in places:
        name = kind.name(place)
        if place in has_best and "best" not in words_of(name):
            yield name, has_best[place]
        elif single_split(name) and (rises_like_others or (kind.is_share(place) and _rises(columns[place]))):
            yield name, True


def _counted_shares(kind: _Kind) -> Iterator[MetricCourse]:
    """Yield the course of right answers such as `91/100`: unlike progress, they rise ever more slowly."""
    counters = kind.counters()
    counter = next(place for place in counters if place is not None)
    for place in range(kind.n_columns - 1):
        totals = set(kind.column(place + 1))
        is_of_total = kind.literals[place + 1].strip() in ("/", "of", "out of") and len(totals) == 1
        total = totals.pop()
        is_counted = place in counters or not total.isdigit() or not all(map(str.isdigit, kind.column(place)))
        if not is_of_total or is_counted or int(total) == 0:
            continue
        values = [_number(row, place) / int(total) for row in kind.rows]
        middle = len(values) // 2
        slows_down = values[middle] - values[0] > SLOWER * (values[-1] - values[middle])
        if len(values) >= FEWEST_COUNTED and max(values) <= 1.0 and slows_down and _rises(values):
            points = (MetricPoint(float(row.numbers[counter]), value) for row, value in zip(kind.rows, values))
            name = kind.name(place)
            split = split_of(name) or ""
            shown_name = f"{name} of {total}".strip() if name else f"the share of {total}"
            yield MetricCourse(shown_name, "share", "validation" if split == "test" else split, True, tuple(points))


def _objective_courses(kinds: Sequence[_Kind]) -> List[MetricCourse]:
    """Return the courses of objectives in lines with or below a counter.

    These are fitnesses and log-likelihoods that rise, and best fitnesses that fall.
    """
    headings = sorted((kind for kind in kinds if kind.counts), key=lambda kind: not _has_named_counter(kind))
    for heading in headings:
        inside = [kind for kind in kinds if kind is heading or abs(len(kind.rows) - len(heading.rows)) <= 1]
        courses = [course for kind in inside for course in _objectives(kind, heading)]
        if courses:
            return courses
    return []


def _objectives(kind: _Kind, heading: _Kind) -> Iterator[MetricCourse]:
    counter = next(place for place in heading.counters() if place is not None)
    positions = list(map(float, heading.column(counter)))
    for place in filter(kind.is_measured, range(kind.n_columns)):
        name = kind.name(place)
        if (objective := _objective_of(name)) is None:
            continue
        values = [_number(row, place) for row in kind.rows]
        falls = objective == "fitness" and "best" in words_of(name) and _rises([-value for value in values])
        if falls or _rises(values):
            points = tuple(MetricPoint(position, value) for position, value in zip(positions, values))
            yield MetricCourse(name, objective, "", not falls, points)


def _objective_of(name: str) -> Optional[str]:
    """Return `fitness` or `log-likelihood` if a name states one of them, None for a negative log-likelihood."""
    words = words_of(name)
    if "fitness" in words:
        return "fitness"
    has_likelihood = "ll" in words or "loglik" in "".join(words)
    is_negative = name.startswith("-") or not _NEGATIVE_WORDS.isdisjoint(words)
    return LOG_LIKELIHOOD if has_likelihood and not is_negative else None


def _has_named_counter(kind: _Kind) -> bool:
    names = [kind.name(place) for place in kind.counters() if place is not None]
    return any(not (_EPOCH_WORDS | _STEP_WORDS).isdisjoint(words_of(name)) for name in names)


def _rises(values: Sequence[float]) -> bool:
    """Return True if the last third of the values is above the first by more than they differ from one to the next."""
    third = max(1, len(values) // 3)
    jumps = [abs(b - a) for a, b in zip(values, values[1:])]
    return (sum(values[-third:]) - sum(values[:third])) / third > sum(jumps) / len(jumps)


def _course(name: str, rises: bool, kinds: Sequence[_Kind]) -> MetricCourse:
    """Return the numbers of a name in all kinds of lines."""
    points: Dict[float, Tuple[int, float]] = {}
    for kind in kinds:
        counter = next(place for place in kind.counters() if place is not None)
        for place in (place for place in range(kind.n_columns) if kind.name(place) == name):
            for row in kind.rows:
                points.setdefault(float(row.numbers[counter]), (row.place, _number(row, place)))
    split = split_of(name) or single_split(name) or ""
    course = tuple(MetricPoint(position, points[position][1]) for position in sorted(points))
    return MetricCourse(f"{name} score", "score", "validation" if split == "test" else split, rises, course)


class _Line(NamedTuple):
    """A line, or a block of several, with its counters."""

    epoch: Optional[int]
    n_epochs: Optional[int]
    step: Optional[int]
    n_steps: Optional[int]
    rows: Tuple[Tuple[_Kind, Row], ...]


class _Position(NamedTuple):
    """Where the lines of a kind count epochs and steps, and how many of these are planned."""

    epoch_place: Optional[int]
    n_epochs: Optional[int]
    step_place: Optional[int]
    n_steps: Optional[int]

    @classmethod
    def of(cls, kind: _Kind) -> "_Position":
        """Find the counters."""
        outer, inner = kind.counters()
        return cls(outer, kind.planned(outer), inner, kind.planned(inner))

    def line(self, row: Row, rows: Tuple[Tuple[_Kind, Row], ...]) -> _Line:
        """Return rows as the line that a row counts."""
        epoch = int(row.numbers[self.epoch_place]) if self.epoch_place is not None else None
        step = int(row.numbers[self.step_place]) if self.step_place is not None else None
        return _Line(epoch, self.n_epochs, step, self.n_steps, rows)


def _lines(kinds: Sequence[_Kind]) -> List[_Line]:
    rows = sorted(((kind, row) for kind in kinds for row in kind.rows), key=lambda pair: pair[1].place)
    positions = {id(kind): _Position.of(kind) for kind in kinds}
    return [positions[id(kind)].line(row, ((kind, row),)) for kind, row in rows]


def _blocks(heading: _Kind, inside: Sequence[_Kind]) -> List[_Line]:
    """Return the lines between a counter and the next one, as one line each; the counter may be their last line."""
    rows = sorted(((kind, row) for kind in (heading, *inside) for row in kind.rows), key=lambda pair: pair[1].place)
    is_last = rows[0][0] is not heading and rows[-1][0] is heading
    position = _Position.of(heading)
    lines: List[_Line] = []
    block: List[Tuple[_Kind, Row]] = []
    counter: Optional[Row] = None
    for kind, row in rows:
        if kind is not heading:
            block.append((kind, row))
        else:
            owner = row if is_last else counter
            if owner is not None and block:
                lines.append(position.line(owner, tuple(block)))
            block, counter = [], row
    if block and counter is not None and not is_last:
        lines.append(position.line(counter, tuple(block)))
    return lines


def _filled(lines: Sequence[_Line], kinds: Sequence[_Kind], collapse: CollapseWatch) -> Optional[EpochTable]:
    """Return the table of epochs or steps that lines fill; None if none of their numbers may be a loss."""
    meanings, assumed_loss = _meanings(lines, kinds)
    if not any(quantity.kind != "other" for columns in meanings.values() for quantity in columns.values()):
        return None
    table = EpochTable()
    table.assumed_loss, table.is_inferred = assumed_loss, True
    for line in lines:
        values = [value for kind, row in line.rows for value in _values(row, meanings.get(kind.literals, {}))]
        epoch = None if line.epoch is None else float(line.epoch)
        kind_of_line = "step" if line.step is not None else "line"
        observation = Observation(tuple(values), epoch, line.n_epochs, line.step, line.n_steps, kind_of_line)
        table.add(observation)
        collapse.add(observation, table.epoch)
    return table


def _values(row: Row, columns: Dict[int, Quantity]) -> Iterator[Value]:
    for place, quantity in columns.items():
        number = parse_number(row.numbers[place])
        if number is not None:
            yield in_nats(Value(quantity, number))


Meanings = Dict[Tuple[str, ...], Dict[int, Quantity]]
"""Words of a kind of lines -> place of a number -> what it is."""


def _meanings(lines: Sequence[_Line], kinds: Sequence[_Kind]) -> Tuple[Meanings, str]:
    """Return what the numbers are, and the name of a number that is taken for the loss without saying so."""
    meanings: Meanings = {}
    unknown: List[Tuple[_Kind, int, str, Optional[str]]] = []
    has_loss = False
    for kind in kinds:
        columns = meanings.setdefault(kind.literals, {})
        counters, measures = kind.counters(), kind.measures
        split = _split_before(kind)
        for place in range(kind.n_columns):
            name = kind.name(place)
            if place in counters:
                continue
            quantity = quantity_of(name) if name else None
            if quantity is not None and (quantity.kind in ("lr", "grad_norm", "reward") or place in measures):
                columns[place] = quantity._replace(split=quantity.split or split)
                has_loss = has_loss or quantity.kind in ("loss", "error", "perplexity", "reward")
            elif place in measures and OTHER_QUANTITY.isdisjoint(words_of(name)) and not is_metric(name):
                unknown.append((kind, place, name, split_of(name) or single_split(name) or split))
    if has_loss:
        _add_others(meanings, unknown)
        return meanings, ""
    losses = _losses(unknown, kinds)
    for kind, place, name, split in losses:
        meanings[kind.literals][place] = Quantity("bare" if single_split(name) else "loss", split)
    if losses:
        _add_others(meanings, unknown)
        return meanings, ""
    courses = unknown[:2]
    if len(courses) == 2 and courses[1][2] and not _HELD_OUT.search(courses[1][2]):
        courses = courses[:1]
    for (kind, place, _, _), split in zip(courses, ("train", "validation")):
        meanings[kind.literals][place] = Quantity(NAMELESS, split)
    _add_others(meanings, unknown)
    return meanings, courses[0][2] if courses else ""


def _add_others(meanings: Meanings, unknown: Sequence[Tuple[_Kind, int, str, Optional[str]]]) -> None:
    """Take the other named numbers for possible parts of the loss."""
    for kind, place, name, split in unknown:
        other = other_of(name)
        if other is not None and place not in meanings[kind.literals]:
            meanings[kind.literals][place] = other._replace(split=other.split or split)


def _losses(
    unknown: Sequence[Tuple[_Kind, int, str, Optional[str]]], kinds: Sequence[_Kind]
) -> List[Tuple[_Kind, int, str, Optional[str]]]:
    """Return the columns of the losses: those that say so, a total first; else those that are the sum of others."""
    for pattern in (_TOTAL_WORD, _LOSS_WORD):
        loss_columns = [column for column in unknown if pattern.search(column[2])]
        if loss_columns:
            first: Dict[Optional[str], Tuple[_Kind, int, str, Optional[str]]] = {}
            for column in loss_columns:
                first.setdefault(column[3], column)
            return list(first.values())
    splits = [column for column in unknown if single_split(column[2])]
    if splits:
        return splits
    for kind in kinds:
        own = [column for column in unknown if column[0] is kind and column[2]][:8]
        for column in own if len(own) > 2 else ():
            others = [other for other in own if other is not column]
            rows = [
                (_number(row, column[1]), {f"{other[1]}": _number(row, other[1]) for other in others})
                for row in kind.rows
            ]
            weights = part_weights(rows)
            if weights and all(weight > 0 for weight in weights.values()):
                return [column]
    return []


def _number(row: Row, place: int) -> float:
    number = parse_number(row.numbers[place])
    return float("nan") if number is None else number


def _split_before(kind: _Kind) -> Optional[str]:
    """Return the split that the words in front of the first numbers of a line name."""
    splits = (split_of(literal) or single_split(literal) for literal in kind.literals[:2])
    return next(filter(None, splits), None)
