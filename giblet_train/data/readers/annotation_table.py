"""Read the rows of an annotation file: the lab's workbook, a CSV, BIDS events, or subtitles."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import python_calamine

from giblet_train.data.readers.bids_events import events_table
from giblet_train.schema.errors import DataError

SHEET = "Segments"

LAB_TR_S = 1.5
"""Repetition time of the lab's TR columns, independent of the study's."""

COLUMNS = {
    "start_s": "Start Time (s)",
    "end_s": "End Time (s)",
    "scene": "Scene Segments",
    "detail": "Scene Details - A Level",
    "in_outdoor": "Space-In/Outdoor",
    "names_all": "Name - All",
    "name_focus": "Name - Focus",
    "name_speaking": "Name - Speaking",
    "location": "Location",
    "camera_angle": "Camera Angle",
    "music": "Music Presence",
    "words_on_screen": "Words on Screen",
}
"""Field of `Segment` -> the lab's column, without its blanks."""

NEEDED = ("start_s", "end_s", "detail")
CUE = re.compile(r"([\d:]+[.,]\d+)\s*-->\s*([\d:]+[.,]\d+)")
FIRST_TR_COLUMN = "Start Time (TRs, 1.5s)"


@dataclass(frozen=True)
class Segment:
    """A stretch of film and a description of it; times are seconds from the film's start."""

    start_s: float
    end_s: float
    detail: str
    names_all: str = ""
    location: str = ""
    scene: str = ""
    in_outdoor: str = ""
    name_focus: str = ""
    name_speaking: str = ""
    camera_angle: str = ""
    music: str = ""
    words_on_screen: str = ""

    @property
    def text(self) -> str:
        """Return the text to embed: the non-empty ones of detail, names and location, joined by `; `."""
        return "; ".join(part for part in (self.detail, self.names_all, self.location) if part)


@dataclass(frozen=True)
class Row:
    """A line of the file."""

    number: int
    """Line number in the file."""
    segment: Segment
    """Segment in the file's own seconds."""
    first_tr: float | None
    """1-based TR, or None."""


def _table(path: Path) -> list[list[Any]]:
    """Read the cells of the file, row by row."""
    try:
        if path.suffix.lower() == ".csv":
            text = path.read_text(encoding="utf-8-sig")
            return list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
        if path.suffix.lower() in (".srt", ".vtt"):
            return _subtitles(path.read_text(encoding="utf-8-sig"))
        if path.suffix.lower() == ".tsv":
            return [list(row) for row in events_table(path)]
        book = python_calamine.CalamineWorkbook.from_path(path)
        if SHEET not in book.sheet_names:
            raise DataError(
                f'{path} has no sheet "{SHEET}"; it has {", ".join(book.sheet_names)}.', f'Name the sheet "{SHEET}".'
            )
        rows: list[list[Any]] = book.get_sheet_by_name(SHEET).to_python()
        return rows
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.", "Set data.annotations.") from None
    except (python_calamine.CalamineError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a workbook, CSV, TSV or subtitle file: {error}.", "Save it as .xlsx or as UTF-8 .csv."
        ) from None


def _delimiter(text: str) -> str:
    """Return the separator of the header: a comma, or a semicolon or tab as spreadsheets of some countries write."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _subtitles(text: str) -> list[list[Any]]:
    """Return the cues of SubRip or WebVTT as rows; tags such as <i> are dropped."""
    rows: list[list[Any]] = [["start_s", "end_s", "detail"]]
    for cue in re.split(r"\n\s*\n", text.replace("\r", "")):
        match = CUE.search(cue)
        if match:
            start_s, end_s = (_clock_s(stamp) for stamp in match.groups())
            rows.append([start_s, end_s, re.sub(r"<[^>]*>", "", cue[match.end() :].partition("\n")[2])])
    return rows


def _clock_s(stamp: str) -> float:
    """Return the seconds of `01:02:03,500` or `02:03.500`."""
    seconds = 0.0
    for part in stamp.replace(",", ".").split(":"):
        seconds = 60.0 * seconds + float(part)
    return seconds


def read_rows(path: Path) -> list[Row]:
    """Read the rows with any content. Raises DataError for an unreadable file, a missing column and a bad time."""
    table = _table(path)
    header = [str(cell).strip() for cell in table[0]] if table else []
    column = {field: _column_of(header, field, COLUMNS[field]) for field in COLUMNS}
    missing = [COLUMNS[field] for field in NEEDED if column[field] is None]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(repr(m) for m in missing)}; it has "
            f"{', '.join(repr(h) for h in header if h) or 'none'}.",
            "Name the columns as the lab's workbook does, or start_s, end_s, detail, names_all, location.",
        )
    tr_column = _column_of(header, FIRST_TR_COLUMN)
    rows = []
    for number, cells in enumerate(table[1:], 2):
        values = {field: cells[n] if n is not None and n < len(cells) else "" for field, n in column.items()}
        if any(str(value).strip() for value in values.values()):
            first_tr = cells[tr_column] if tr_column is not None and tr_column < len(cells) else None
            rows.append(Row(number, _segment(path, number, values), _optional_number(first_tr)))
    return rows


def _column_of(header: Sequence[str], *names: str) -> int | None:
    return next((n for n, cell in enumerate(header) if cell in names), None)


def _segment(path: Path, number: int, values: Mapping[str, Any]) -> Segment:
    start_s, end_s = (_time_s(path, number, field, values[field]) for field in ("start_s", "end_s"))
    if end_s < start_s:
        raise DataError(
            f"{path}, row {number}: the segment ends at {end_s:g} s, before it starts at {start_s:g} s.",
            "Correct the row.",
        )
    words = {field: _clean_text(value) for field, value in values.items() if field not in ("start_s", "end_s")}
    return Segment(start_s, end_s, **words)


def _time_s(path: Path, number: int, field: str, value: Any) -> float:
    time_s = _optional_number(value)
    if time_s is None:
        raise DataError(
            f"{path}, row {number}: {COLUMNS[field]} is {value!r}, which is no number.",
            "Give seconds from the scan's start.",
        )
    return time_s


def _optional_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def _clean_text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return " ".join(str(int(value) if whole else value).split())
