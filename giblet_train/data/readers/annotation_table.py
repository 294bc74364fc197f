"""Read the rows of an annotation file as segments: find its columns under any usual name, and its times in any form."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time, timedelta
from pathlib import Path
from typing import Any

from giblet_train.data.readers.annotation_cells import read_cells
from giblet_train.schema.errors import DataError

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

OTHER_NAMES = {
    "start_s": ("onset", "start", "start time", "begin", "begin time", "time start", "xmin", "tmin"),
    "end_s": ("end", "end time", "offset", "stop", "stop time", "time end", "xmax", "tmax"),
    "detail": (
        "trial type",
        "text",
        "word",
        "words",
        "transcript",
        "transcription",
        "sentence",
        "caption",
        "description",
        "annotation",
        "label",
        "value",
        "stim file",
    ),
}
"""Field -> other names of its column, in lower case and without the unit."""
DURATIONS = ("duration", "dur")
MILLISECONDS = re.compile(r"(?<!ss )\b(?:ms|msec)$")
TIMES = ("start_s", "end_s", "duration")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
THOUSANDS = re.compile(r"-?[1-9]\d{0,2},\d{3}")
EMPTY = ("n/a", "nan")
TITLE_ROWS = 5
"""Rows at the top of a table that are searched for its header."""
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


def read_rows(path: Path) -> list[Row]:
    """Read the rows with any content. Raises DataError for an unreadable file, a missing column and a bad time."""
    table, delimiter = read_cells(path)
    first = next((n for n, row in enumerate(table[:TITLE_ROWS]) if not _missing(_columns(row))), 0)
    header = [str(cell).strip() for cell in table[first]] if table else []
    columns = _columns(header)
    missing = _missing(columns)
    if missing:
        names = ", ".join(repr(name) for name in header if name) or "none"
        raise DataError(
            f"{path} has no column for {', '.join(missing)}; it has {names}.",
            "Name the columns as the lab's workbook does; or start_s, end_s, detail; or onset, duration, trial_type.",
        )
    numbered_rows = list(enumerate(table[first + 1 :], first + 2))
    if delimiter == ",":
        _check_commas(path, numbered_rows, columns)
    rows = []
    for number, cells in numbered_rows:
        values = {field: column.cell(cells) for field, column in columns.items()}
        if any(str(value).strip() for field, value in values.items() if field != "first_tr"):
            first_tr = values.pop("first_tr", None)
            rows.append(Row(number, _segment(path, number, values, columns), _optional_number(first_tr)))
    return rows


@dataclass(frozen=True)
class _Column:
    """Position and unit of the column that holds a field."""

    place: int
    name: str
    scale: float
    """Seconds in the unit of the column."""

    def cell(self, cells: Sequence[Any]) -> Any:
        value = cells[self.place] if self.place < len(cells) else ""
        return "" if value is None or str(value).strip().lower() in EMPTY else value


def _columns(header: Sequence[Any]) -> dict[str, _Column]:
    """Return field -> column. The lab's names and those of fields come before others that mean the same."""
    names = [str(cell).strip() for cell in header]
    plain = [" ".join(re.findall(r"[a-z]+", name.lower().replace("_", " "))) for name in names]
    columns: dict[str, _Column] = {}
    for field, lab_name in (COLUMNS | {"first_tr": FIRST_TR_COLUMN}).items():
        own = next((n for n, name in enumerate(names) if name in (field, lab_name)), None)
        others = OTHER_NAMES.get(field, ())
        alike = next((n for other in others for n, name in enumerate(plain) if _without_unit(name) == other), None)
        place = own if own is not None else alike
        if place is not None:
            columns[field] = _Column(place, names[place], 1e-3 if MILLISECONDS.search(plain[place]) else 1.0)
    if "end_s" not in columns or columns["end_s"].name not in ("end_s", COLUMNS["end_s"]):
        place = next((n for n, name in enumerate(plain) if _without_unit(name) in DURATIONS), None)
        if place is not None:
            columns.pop("end_s", None)
            columns["duration"] = _Column(place, names[place], 1e-3 if MILLISECONDS.search(plain[place]) else 1.0)
    return columns


def _check_commas(path: Path, rows: Sequence[tuple[int, Sequence[Any]]], columns: Mapping[str, _Column]) -> None:
    """Raise DataError for a table between commas if the commas in its times may separate thousands."""
    time_columns = [columns[field] for field in (*TIMES, "first_tr") if field in columns]
    times = [
        (number, column.name, str(column.cell(cells)).strip()) for number, cells in rows for column in time_columns
    ]
    with_comma = [item for item in times if DECIMAL_COMMA.fullmatch(item[2])]
    thousands = [item for item in with_comma if THOUSANDS.fullmatch(item[2])]
    # Commas that cannot separate thousands show that the others are decimal ones, too.
    are_decimal = len(thousands) < len(with_comma) and not any("." in text for _, _, text in times)
    if thousands and not are_decimal:
        number, name, text = thousands[0]
        raise DataError(
            f"{path}, row {number}: {name} is {text!r}, which may be {text.replace(',', '.')} or "
            f"{text.replace(',', '')}.",
            "Write a point before decimals, and nothing between thousands.",
        )


def _without_unit(name: str) -> str:
    return re.sub(r" (?:s|sec|secs|seconds|ms|msec|ss msec|in s|in seconds|in ms)$", "", name)


def _missing(columns: Mapping[str, _Column]) -> list[str]:
    """Return what a table lacks, in words."""
    requirements = {"the start": {"start_s"}, "the end or the duration": {"end_s", "duration"}, "the text": {"detail"}}
    return [what for what, fields in requirements.items() if not fields & set(columns)]


def _segment(path: Path, number: int, values: Mapping[str, Any], columns: Mapping[str, _Column]) -> Segment:
    start_s = _time_s(path, number, columns["start_s"], values["start_s"])
    if "end_s" in columns:
        end_s = _time_s(path, number, columns["end_s"], values["end_s"])
    else:
        duration_text = values["duration"]
        end_s = start_s + (0.0 if duration_text == "" else _time_s(path, number, columns["duration"], duration_text))
    if end_s < start_s:
        raise DataError(
            f"{path}, row {number}: the segment ends at {end_s:g} s, before it starts at {start_s:g} s.",
            "Correct the row.",
        )
    words = {field: _clean_text(value) for field, value in values.items() if field not in TIMES}
    return Segment(start_s, end_s, **words)


def _time_s(path: Path, number: int, column: _Column, value: Any) -> float:
    time_s = _optional_number(value)
    if time_s is None:
        time_s = _clock_s(value)
    if time_s is None:
        raise DataError(
            f"{path}, row {number}: {column.name} is {value!r}, which is no number.",
            "Give seconds from the scan's start, or hours, minutes and seconds: 0:01:02.5.",
        )
    return time_s * column.scale


def _clock_s(value: Any) -> float | None:
    """Return the seconds of `01:02:03,500`, `02:03.500`, and of a spreadsheet's time of day; None for anything else."""
    if isinstance(value, time):
        return 3600.0 * value.hour + 60.0 * value.minute + value.second + value.microsecond / 1e6
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = re.fullmatch(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)", str(value).strip())
    if match is None:
        return None
    return 3600.0 * int(match[1] or 0) + 60.0 * int(match[2]) + float(match[3].replace(",", "."))


def _optional_number(value: Any) -> float | None:
    """Return a number, also with a comma before its decimals; None for anything else."""
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    try:
        number = float(text)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def _clean_text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return " ".join(str(int(value) if whole else value).split())
