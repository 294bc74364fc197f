"""Read tables that a training prints for the screen: a header with names of columns, then rows of numbers."""

from __future__ import annotations

import math
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from giblet_train.diagnosis.log_reader.key_names import names_a_loss, quantity_of, single_split, words_of
from giblet_train.diagnosis.log_reader.metric_names import is_metric
from giblet_train.diagnosis.log_reader.number_format import NUMBER, parse_number

MAX_COLUMNS = 64
_COUNTERS = frozenset({"epoch", "epochs", "ep", "step", "iteration", "iter", "it", "epoche"})
_SHORT_COUNTERS = ("E", "#")
"""Columns of spaCy for the epoch and the step."""
_DETECTOR_LOSSES = frozenset({"box", "obj", "cls", "dfl", "seg", "pose", "kobj", "giou", "total"})
"""Columns of losses in the tables of YOLO, whose names do not say so."""
_EMPTY_CELLS = ("", "-", "--", "none", "null", "n/a")
_FRAME = re.compile("[│┃┆┊║]")
_GAP = re.compile(r"\t+|\s{2,}")
_COUNTER = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(?:/(\d{1,9}))?")
_CELL = re.compile(NUMBER, re.IGNORECASE)
_LIST = re.compile(rf"\[\s*{NUMBER}(?:[,\s]+{NUMBER})*\s*\]", re.IGNORECASE)
_BAR_AFTER_ROW = re.compile(r":?\s+\d{1,3}%(?:\||\s+[━─╸╺]).*")
_NOT_A_NAME = re.compile(r"[={}\[\]]|\w:(?![a-z])|\d\.\d|(?:^|\s)\d")
SEPARATORS = (",", ";")
"""Separators of a table whose cells have no gaps between them, in the order in which they are tried."""


class Row(NamedTuple):
    """A row of a table."""

    record: Dict[str, str]
    """Name of a column -> its cell."""
    n_epochs: Optional[int]
    """Planned number of epochs, from a cell such as `3/99`; None without one."""
    is_bar: bool
    """True if a progress bar follows the row, whose numbers are then averages of the epoch so far."""

    def __str__(self) -> str:
        return ", ".join(f"{name}: {cell}" for name, cell in self.record.items())


class ScreenTable:
    """Remembers the newest header, and reads the rows below it."""

    def __init__(self) -> None:
        self._columns: Tuple[str, ...] = ()
        self._splits: Tuple[str, ...] = ()
        self._upper: Tuple[str, ...] = ()
        self._separator = ""

    @property
    def header(self) -> Tuple[Tuple[str, ...], Tuple[str, ...], str]:
        """Return the newest header."""
        return self._columns, self._splits, self._separator

    @property
    def is_in_header(self) -> bool:
        """Return True if the next line may be the second of a header."""
        return bool(self._upper)

    def read_header(self, text: str) -> bool:
        """Remember the columns that a line names. Return False if it is no header."""
        separator = next((mark for mark in SEPARATORS if mark in text), "") if "|" not in text else ""
        cells, upper = _cells(text, separator), self._upper
        self._upper = ()
        if not 2 <= len(cells) <= MAX_COLUMNS or any(map(is_no_name, cells)):
            return False
        splits = tuple(single_split(cell) or "" for cell in cells)
        if all(splits):
            self._columns, self._splits = (), splits
            return True
        if "|" in text or _FRAME.search(text):
            cells = _joined(upper, cells)
            self._upper = cells
        has_columns = bool("|" in text or separator or _GAP.search(text) or _FRAME.search(text))
        if not all(cells) or not (_is_header(cells) or (has_columns and not self._columns and _names_metrics(cells))):
            return False
        self._columns, self._splits, self._separator = _named_losses(cells), (), separator
        return True

    def read_row(self, text: str) -> Optional[Row]:
        """Return the row in a line; None if it is no row of the newest header."""
        if self._splits and "|" in text:
            return self._row_of_splits(text)
        if not self._columns:
            return None
        body, _, _ = text.partition("%|")
        is_bar = len(body) < len(text) or bool(_BAR_AFTER_ROW.search(text))
        row = _LIST.sub(_sum_of_list, _BAR_AFTER_ROW.sub("", text))
        cells = [cell.rstrip(":") for cell in _cells(row, self._separator, is_row=True) if cell != "+"]
        record = {name: _without_percent(cell) for name, cell in zip(self._columns, cells)}
        if len(cells) > len(self._columns) or not _has_counter(record) or not _has_loss(record):
            return None
        return _row(record, is_bar)

    def _row_of_splits(self, text: str) -> Optional[Row]:
        name, *cells = _cells(text) or ("",)
        if len(cells) != len(self._splits) or quantity_of(name) is None:
            return None
        return Row({f"{split} {name}": cell for split, cell in zip(self._splits, cells)}, None, False)


def is_no_name(cell: str) -> bool:
    """Return True if a cell is no name of a column, because it is or contains a value."""
    return _NOT_A_NAME.search(cell) is not None or _CELL.fullmatch(cell) is not None


def _cells(text: str, separator: str = "", is_row: bool = False) -> Tuple[str, ...]:
    """Split a line at its separator, rules, tabulators, wide gaps, or single spaces."""
    text = _FRAME.sub("|", text).strip()
    if separator:
        return tuple(cell.strip() for cell in text.split(separator))
    if "|" in text:
        return tuple(cell.strip() for cell in text.strip("|").split("|"))
    if is_row:
        return tuple(text.split())
    return tuple(cell.strip() for cell in (_GAP.split(text) if _GAP.search(text) else text.split()))


def _joined(upper: Tuple[str, ...], lower: Tuple[str, ...]) -> Tuple[str, ...]:
    """Join a header of two lines, such as `Mini-batch` above `Loss`."""
    return tuple(f"{a} {b}".strip() for a, b in zip(upper, lower)) if len(upper) == len(lower) else lower


def _is_header(cells: Tuple[str, ...]) -> bool:
    return any(map(_is_counter, cells)) and names_losses(_named_losses(cells))


def names_losses(names: Sequence[str]) -> bool:
    """Return True if names of columns contain a loss or an error, or only a split for both training and validation."""
    quantities = [quantity_of(name) for name in names]
    is_named = any(quantity is not None and quantity.kind in ("loss", "error") for quantity in quantities)
    return is_named or {"train", "validation"} <= {single_split(name) for name in names}


def _named_losses(cells: Tuple[str, ...]) -> Tuple[str, ...]:
    """Return the names of columns, with `loss` after those of YOLO that lack it."""
    names = [cell.lower() for cell in cells]
    if "gpu_mem" not in names:
        return cells
    return tuple(f"{name}_loss" if name in _DETECTOR_LOSSES else name for name in names)


def _sum_of_list(match: "re.Match[str]") -> str:
    """Write a list of the parts of a loss as their sum."""
    numbers = [parse_number(number) for number in _CELL.findall(match[0])]
    return f"{math.fsum(number for number in numbers if number is not None):.9g}"


def _is_counter(name: str) -> bool:
    words = words_of(name)
    return name in _SHORT_COUNTERS or (len(words) == 1 and words[0] in _COUNTERS)


def _has_counter(record: Dict[str, str]) -> bool:
    return any(_is_counter(name) and _COUNTER.fullmatch(cell) for name, cell in record.items())


def _names_metrics(names: Sequence[str]) -> bool:
    """Return True for columns of a counter and of metrics, in a table without losses."""
    return any(map(_is_counter, names)) and any(map(is_metric, names))


def _without_percent(cell: str) -> str:
    number = cell.rstrip("% ")
    return number if _CELL.fullmatch(number) else cell


def _has_loss(record: Dict[str, str]) -> bool:
    """Return True for a row whose losses are numbers; in a table of metrics without losses, these."""
    numbers = [name for name, cell in record.items() if _CELL.fullmatch(cell)]
    if not names_losses(list(record)):
        return any(map(is_metric, numbers))
    others = [name for name, cell in record.items() if name not in numbers and cell.lower() not in _EMPTY_CELLS]
    return names_losses(numbers) and not any(names_a_loss(name) for name in others)


def _row(record: Dict[str, str], is_bar: bool) -> Row:
    """Return a row whose cells `3/99` are divided into number and planned number."""
    n_epochs: Optional[int] = None
    counts: List[Tuple[str, str]] = []
    for name, cell in record.items():
        match = _COUNTER.fullmatch(cell) if _is_counter(name) else None
        if match:
            is_epoch = name == "E" or name.lower().startswith("ep")
            n_epochs = int(match[2]) if match[2] and is_epoch else n_epochs
            counts.append(("epoch" if is_epoch else "step", match[1]))
    others = {name: cell for name, cell in record.items() if not _is_counter(name)}
    return Row({**dict(counts), **others}, n_epochs, is_bar)
