"""Read annotations of a film from the lab's workbook, a CSV, BIDS events or subtitles onto one timeline in seconds.

`read_annotations(path, tr_s, scan_lengths_trs) -> Annotations`. The workbook has a sheet `Segments`; a CSV has the same
headers, or the names of `Segment`'s fields; events are a .tsv; subtitles are .srt or .vtt. Seconds may restart with
every scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from giblet_train.data.readers.annotation_table import Row, Segment, read_rows
from giblet_train.data.readers.scan_restarts import scan_of_rows, scan_starts_s, scans_of_rows
from giblet_train.schema.errors import DataError

POINT_S = 0.1
"""Duration given to an annotation without one, such as an event or a word that has only an onset."""

LONGEST_RATIO = 5.0
"""Annotations that reach this many times beyond film and scans are not in seconds."""

MILLISECONDS = 500.0
DAY_FRACTION = 1.0
TIME_DECIMALS = 6


class Annotations(NamedTuple):
    """Annotations of a film."""

    segments: tuple[Segment, ...]
    """Segments in order of time."""
    notes: tuple[str, ...] = ()
    """A sentence for each correction made while reading."""


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


def read_annotations(
    path: Path, tr_s: float, scan_lengths_trs: Sequence[int] | None = None, scan: int | None = None
) -> Annotations:
    """Read the segments of a workbook, CSV, events or subtitle file on the common timeline of all scans.

    If seconds restart, `scan_lengths_trs` gives the length of the scans before, in TRs of tr_s seconds. Rows may be in
    any order within a scan. Rows with equal start, end and text are read once and counted in the notes. TR columns may
    be blank. An annotation without a duration lasts POINT_S.
    Raises DataError for an unreadable file, a missing column, a time that is not a number, an end before its start,
    times that are all zero, and seconds that restart more often than scan_lengths_trs allows.

    Args:
        scan: Part of a file whose seconds restart that is read, from 1, in its own seconds; None for all of them.
    """
    every = read_rows(path)
    rows, n_duplicates = _without_duplicates(every if scan is None else _rows_of_scan(every, scan, path))
    if not rows:
        raise DataError(f"{path} has no annotated segment.", "Give the lab's workbook or a CSV with its columns.")
    if len(rows) > 1 and all(row.segment.start_s == row.segment.end_s == 0 for row in rows):
        raise DataError(
            f"{path}: all annotations start and end at 0 s.",
            "If the times are formulas, open the file in a spreadsheet and save it, so that their values are stored.",
        )
    starts_s = scan_starts_s(tr_s, scan_lengths_trs)
    whole = [0] * len(rows), 0
    scans, n_unsorted = scan_of_rows(rows, starts_s, tr_s, scan_lengths_trs, path) if scan is None else whole
    segments = [_shifted(row.segment, starts_s[scan]) for row, scan in zip(rows, scans, strict=True)]
    points = [segment.start_s == segment.end_s for segment in segments]
    segments = [
        replace(s, end_s=s.start_s + POINT_S) if point else s for s, point in zip(segments, points, strict=True)
    ]
    notes = [f"{n_duplicates} duplicate annotations are left out."] if n_duplicates else []
    notes += [f"{path.name}: {n_unsorted} annotations were not in order of time."] if n_unsorted else []
    notes += (
        [f"{path.name}: {sum(points)} annotations have no duration; each lasts {POINT_S:g} s."] if any(points) else []
    )
    return Annotations(tuple(sorted(segments, key=lambda s: (s.start_s, s.end_s))), tuple(notes))


def check_unit(segments: Sequence[Segment], film_s: float, scans_s: float, where: str) -> None:
    """Raise DataError if the times cannot be seconds of this film: milliseconds, frames, or fractions of a day."""
    last_s = max(segment.end_s for segment in segments)
    longest_s = max(film_s, scans_s)
    if last_s > LONGEST_RATIO * longest_s:
        unit = "milliseconds" if last_s > MILLISECONDS * longest_s else "frames or samples"
        raise DataError(
            f"{where}: annotations reach second {last_s:,.0f}, but film and scans last {longest_s:,.0f} s. "
            f"The times look like {unit}.",
            "Convert them to seconds.",
        )
    if last_s <= DAY_FRACTION < POINT_S * longest_s and len({s.start_s for s in segments}) > 2:
        raise DataError(
            f"{where}: all annotations end within {last_s:.4g} s of {longest_s:,.0f} s. The times look like a "
            "spreadsheet's times of day, which are fractions of a day.",
            "Convert them to seconds: multiply by 86400.",
        )


def _rows_of_scan(rows: Sequence[Row], scan: int, path: Path) -> list[Row]:
    numbers = scans_of_rows(rows)
    last = max(numbers, default=-1) + 1
    if scan > last:
        raise DataError(
            f"{path} describes {last} scans, not {scan}: its seconds restart {max(0, last - 1)} times.",
            "Correct annotations_scan.",
        )
    return [row for row, number in zip(rows, numbers, strict=True) if number == scan - 1]


def _without_duplicates(rows: Iterable[Row]) -> tuple[list[Row], int]:
    unique: dict[tuple[float, float, str], Row] = {}
    n_rows = 0
    for row in rows:
        n_rows += 1
        unique.setdefault((row.segment.start_s, row.segment.end_s, row.segment.text), row)
    return list(unique.values()), n_rows - len(unique)


def _shifted(segment: Segment, by_s: float) -> Segment:
    start_s, end_s = (round(time_s + by_s, TIME_DECIMALS) for time_s in (segment.start_s, segment.end_s))
    return replace(segment, start_s=start_s, end_s=end_s)
