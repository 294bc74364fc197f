"""Annotations of a film: read from the lab's workbook, a CSV or BIDS events, and laid on one timeline in seconds.

`read_annotations(path, tr_s, scan_lengths_trs) -> Annotations`. The workbook has a sheet `Segments` whose seconds
restart with every scan; a CSV has the same headers, or the names of `Segment`'s fields; events are a .tsv.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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

NEEDED = ("start_s", "end_s", "detail", "names_all", "location")
FIRST_TR_COLUMN = "Start Time (TRs, 1.5s)"
RESTART_RATIO = 0.5
TOLERANCE_TRS = 3
TIME_DECIMALS = 6


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
class Annotations:
    """Annotations of a film."""

    segments: tuple[Segment, ...]
    """Segments in order of time."""
    notes: tuple[str, ...] = ()
    """A sentence for each correction made while reading."""


@dataclass(frozen=True)
class _Row:
    """A line of the file."""

    number: int
    """Line number in the file."""
    segment: Segment
    """Segment in the file's own seconds."""
    first_tr: float | None
    """1-based TR, or None."""


def read_runs(paths: Sequence[Path], tr_s: float, scan_lengths_trs: Sequence[int] | None = None) -> Annotations:
    """Read the segments of one file for all scans, or of one file per scan with seconds from the scan's start.

    Raises what `read_annotations` does, and DataError if there are not as many files as scans.
    """
    if len(paths) == 1:
        return read_annotations(paths[0], tr_s, scan_lengths_trs)
    starts_s = scan_starts_s(tr_s, scan_lengths_trs)
    if len(paths) != len(starts_s):
        raise DataError(f"There are {len(paths)} annotation files for {len(starts_s)} scans.", "Set data.annotations.")
    per_scan = [read_annotations(path, tr_s) for path in paths]
    return Annotations(
        tuple(_shifted(segment, by_s) for a, by_s in zip(per_scan, starts_s, strict=True) for segment in a.segments),
        tuple(note for a in per_scan for note in a.notes),
    )


def read_annotations(path: Path, tr_s: float, scan_lengths_trs: Sequence[int] | None = None) -> Annotations:
    """Read the segments of a workbook, CSV or events file on the common timeline of all scans.

    If seconds restart, `scan_lengths_trs` gives the length of the scans before, in TRs of tr_s seconds. Rows with equal
    start, end and text are read once and counted in the notes. TR columns may be blank.
    Raises DataError for an unreadable file, a missing column, a time that is not a number, an end before its start, and
    seconds that restart more often than scan_lengths_trs allows.
    """
    rows, n_duplicates = _without_duplicates(_rows(path, _table(path)))
    if not rows:
        raise DataError(f"{path} has no annotated segment.", "Give the lab's workbook or a CSV with its columns.")
    segments = _on_one_timeline(rows, tr_s, scan_lengths_trs, path)
    notes = [f"{n_duplicates} duplicate annotations are left out."] if n_duplicates else []
    return Annotations(tuple(sorted(segments, key=lambda s: (s.start_s, s.end_s))), tuple(notes))


def scan_starts_s(tr_s: float, scan_lengths_trs: Sequence[int] | None) -> list[float]:
    """Return the start of each scan on the common timeline, in seconds."""
    starts_s = [0.0]
    for length in (scan_lengths_trs or ())[:-1]:
        starts_s.append(starts_s[-1] + length * tr_s)
    return starts_s


def _table(path: Path) -> list[list[Any]]:
    """Read the cells of the file, row by row."""
    try:
        if path.suffix.lower() == ".csv":
            return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
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
        raise DataError(f"{path} is no workbook or CSV: {error}.", "Save it as .xlsx or as UTF-8 .csv.") from None


def _rows(path: Path, table: Sequence[Sequence[Any]]) -> list[_Row]:
    header = [str(cell).strip() for cell in table[0]] if table else []
    column = {field: _column_of(header, field, COLUMNS[field]) for field in COLUMNS}
    missing = [COLUMNS[field] for field in NEEDED if column[field] is None]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(repr(m) for m in missing)}; it has "
            f"{', '.join(repr(h) for h in header if h) or 'none'}.",
            "Name the columns as the lab's workbook does; an empty column is fine.",
        )
    tr_column = _column_of(header, FIRST_TR_COLUMN)
    rows = []
    for number, cells in enumerate(table[1:], 2):
        values = {field: cells[n] if n is not None and n < len(cells) else "" for field, n in column.items()}
        if any(str(value).strip() for value in values.values()):
            first_tr = cells[tr_column] if tr_column is not None and tr_column < len(cells) else None
            rows.append(_Row(number, _segment(path, number, values), _optional_number(first_tr)))
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


def _without_duplicates(rows: Iterable[_Row]) -> tuple[list[_Row], int]:
    unique: dict[tuple[float, float, str], _Row] = {}
    n_rows = 0
    for row in rows:
        n_rows += 1
        unique.setdefault((row.segment.start_s, row.segment.end_s, row.segment.text), row)
    return list(unique.values()), n_rows - len(unique)


def _on_one_timeline(
    rows: Sequence[_Row], tr_s: float, scan_lengths_trs: Sequence[int] | None, path: Path
) -> list[Segment]:
    """Shift the segments of each scan by the length of the scans before it."""
    starts_s = scan_starts_s(tr_s, scan_lengths_trs)
    scan, segments = 0, []
    for before, row in zip([rows[0], *rows], rows, strict=False):
        if _restarts(before, row):
            scan += 1
            _check_restart(row, scan, starts_s, tr_s, path)
        segments.append(_shifted(row.segment, starts_s[scan]))
    return segments


def _shifted(segment: Segment, by_s: float) -> Segment:
    start_s, end_s = (round(time_s + by_s, TIME_DECIMALS) for time_s in (segment.start_s, segment.end_s))
    return replace(segment, start_s=start_s, end_s=end_s)


def _restarts(before: _Row, row: _Row) -> bool:
    """Return True if a new scan begins with `row`: its seconds fall far back while its TR column does not."""
    trs_fall = before.first_tr is not None and row.first_tr is not None and row.first_tr < before.first_tr
    return row.segment.start_s < RESTART_RATIO * before.segment.start_s and not trs_fall


def _check_restart(row: _Row, scan: int, starts_s: Sequence[float], tr_s: float, path: Path) -> None:
    """Raises DataError unless scan number `scan`, from 0, is known and begins where the row's TR column says."""
    where = f"{path}, row {row.number}: the seconds restart at {row.segment.start_s:g} s"
    if scan >= len(starts_s):
        reason = "data.scan_lengths_trs is not given" if scan == 1 else f"there are only {len(starts_s)} scans"
        raise DataError(
            f"{where}, but {reason}, so nobody knows when that was.",
            "Set data.scan_lengths_trs to the TRs of every scan, such as [946, 1030].",
        )
    if row.first_tr is None:
        return
    stated_s = (row.first_tr - 1) * LAB_TR_S
    if abs(stated_s - (starts_s[scan] + row.segment.start_s)) > TOLERANCE_TRS * LAB_TR_S:
        raise DataError(
            f"{where}, which its TR column puts at TR {row.first_tr:g} ({stated_s:g} s) and data.scan_lengths_trs at "
            f"{starts_s[scan] + row.segment.start_s:g} s.",
            f"Correct data.scan_lengths_trs; scan {scan} seems to have {round(stated_s / tr_s)} TRs in all before it.",
        )
