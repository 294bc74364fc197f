"""Assign the rows of an annotation file to scans, whose seconds may restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from giblet_train.data.readers.annotation_table import LAB_TR_S, Row
from giblet_train.schema.errors import DataError

RESTART_RATIO = 0.5
TOLERANCE_TRS = 3
UNORDERED_SHARE = 0.1


def scan_starts_s(tr_s: float, scan_lengths_trs: Sequence[int] | None) -> list[float]:
    """Return the start of each scan on the common timeline, in seconds."""
    starts_s = [0.0]
    for length in (scan_lengths_trs or ())[:-1]:
        starts_s.append(starts_s[-1] + length * tr_s)
    return starts_s


def scan_of_rows(
    rows: Sequence[Row], starts_s: Sequence[float], tr_s: float, scan_lengths_trs: Sequence[int] | None, path: Path
) -> tuple[list[int], int]:
    """Return the scan of each row, from 0, and the number of rows out of order within their scan.

    Seconds that run on over the end of the first scan do not restart at all: then every row is of scan 0, the common
    timeline. Raises DataError if seconds restart more often than there are scans, or not where the TR column says.
    """
    scans = _count_restarts(rows) if len(starts_s) > 1 else scans_of_rows(rows)
    if scan_lengths_trs and _runs_on(rows, scans, tr_s * scan_lengths_trs[0]):
        scans = [0] * len(rows)
    for n in range(1, len(rows)):
        if scans[n] > scans[n - 1]:
            _check_restart(rows[n], scans[n], starts_s, tr_s, path)
    n_unsorted = sum(
        scans[n] == scans[n - 1] and rows[n].segment.start_s < rows[n - 1].segment.start_s for n in range(1, len(rows))
    )
    return scans, n_unsorted


def scans_of_rows(rows: Sequence[Row]) -> list[int]:
    """Return the number of the scan of each row, from 0: one more after each restart of the seconds.

    Rows in no order are one scan.
    """
    scans = _count_restarts(rows)
    return [0] * len(rows) if _is_in_no_order(rows, scans) else scans


def _count_restarts(rows: Sequence[Row]) -> list[int]:
    scans = [0] if rows else []
    for n in range(1, len(rows)):
        scans.append(scans[-1] + _restarts(rows, n))
    return scans


def _is_in_no_order(rows: Sequence[Row], scans: Sequence[int]) -> bool:
    """Return True for rows in any order. In scans one after another, seconds hardly ever fall."""
    falls = sum(
        scans[n] == scans[n - 1] and rows[n].segment.start_s < rows[n - 1].segment.start_s for n in range(1, len(rows))
    )
    return falls > UNORDERED_SHARE * len(rows)


def _restarts(rows: Sequence[Row], n: int) -> bool:
    """Return True if a scan begins with row n: its seconds fall far back and stay there, while its TR continues.

    A single row that falls back, with the next one further on than the row before it, is merely out of order.
    """
    before, row = rows[n - 1], rows[n]
    if not 0 <= row.segment.start_s < RESTART_RATIO * before.segment.start_s:
        return False
    if before.first_tr is not None and row.first_tr is not None:
        return row.first_tr >= before.first_tr
    return n + 1 < len(rows) and rows[n + 1].segment.start_s < before.segment.start_s


def _runs_on(rows: Sequence[Row], scans: Sequence[int], first_scan_s: float) -> bool:
    """Return True if the rows before the first restart reach well beyond the first scan."""
    last_s = max(row.segment.start_s for row, scan in zip(rows, scans, strict=True) if scan == 0)
    return last_s > first_scan_s + TOLERANCE_TRS * LAB_TR_S


def _check_restart(row: Row, scan: int, starts_s: Sequence[float], tr_s: float, path: Path) -> None:
    """Raise DataError unless scan number `scan`, from 0, exists and begins where the row's TR column says."""
    where = f"{path}, row {row.number}: the seconds restart at {row.segment.start_s:g} s"
    if scan >= len(starts_s):
        reason = "data.scan_lengths_trs is not given" if scan == 1 else f"there are only {len(starts_s)} scans"
        raise DataError(
            f"{where}, but {reason}, so the time of that scan is unknown.",
            "Set data.scan_lengths_trs to the TRs of every scan, such as [946, 1030], or sort the rows of one scan.",
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


def ends_of_parts(rows: Sequence[Row]) -> list[float]:
    """Return the last second of each part of a file, whose seconds may restart."""
    numbers = scans_of_rows(rows)
    return [
        max((row.segment.end_s for row, number in zip(rows, numbers, strict=True) if number == n), default=0.0)
        for n in range(max(numbers, default=-1) + 1)
    ]
