"""Find where one scan ends and the next begins in files that hold several."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from giblet_train.data.discover.inventory import Medium
from giblet_train.data.discover.names import tokens
from giblet_train.data.readers.annotation_table import LAB_TR_S, Row, read_rows
from giblet_train.data.readers.scan_restarts import scans_of_rows
from giblet_train.schema.errors import DataError

FEWEST_TRS = 20
SAME_LENGTH_TRS = 2.0
"""A film and a scan of it differ by at most this."""


def borders_in_files(texts: Sequence[Path], media: Sequence[Medium]) -> Callable[[int, float], tuple[int, ...]]:
    """Return the function of a file's volumes and TR that gives the volumes at which its further scans begin.

    A workbook whose seconds restart states the TR of each restart. It applies to files about as long as all that it
    describes: a file with a single part is not divided. Without a workbook, films that together last as long as the
    file show where it is divided.
    """
    edges_s = next((s for path in texts if (s := _edges_s(path))), ())
    films = sorted((m for m in media if m.has_pictures), key=lambda m: [t.zfill(8) for t in tokens(m.path.stem)])

    def borders(n_trs: int, tr_s: float) -> tuple[int, ...]:
        border_trs = _borders_of_workbook(edges_s, n_trs, tr_s)
        return _possible(border_trs, n_trs) or _possible(
            _borders_of_films([f.seconds for f in films], n_trs, tr_s), n_trs
        )

    return borders


def _possible(borders: tuple[int, ...], n_trs: int) -> tuple[int, ...]:
    """Return the borders if each scan between them is long enough, else none."""
    edges = (0, *borders, n_trs)
    long_enough = all(b - a >= FEWEST_TRS for a, b in itertools.pairwise(edges))
    return borders if long_enough else ()


def _borders_of_workbook(edges_s: Sequence[float], n_trs: int, tr_s: float) -> tuple[int, ...]:
    """Return the borders of the scans that a workbook describes; () for a file that is more likely one of them.

    That is a file whose length is nearer to the longest scan than to all of them. Scans may be shorter or longer than
    what is described, so no exact length is required.
    """
    if not edges_s:
        return ()
    longest_s = max(b - a for a, b in itertools.pairwise(edges_s))
    if n_trs * tr_s <= (longest_s + edges_s[-1]) / 2:
        return ()
    return tuple(round(s / tr_s) for s in edges_s[1:-1])


def _borders_of_films(seconds: Sequence[float], n_trs: int, tr_s: float) -> tuple[int, ...]:
    """Return the borders of films shown one after another; () unless they together last as long as the file."""
    if len(seconds) < 2 or abs(sum(seconds) / tr_s - n_trs) > SAME_LENGTH_TRS * len(seconds):
        return ()
    return tuple(round(sum(seconds[: n + 1]) / tr_s) for n in range(len(seconds) - 1))


def _edges_s(path: Path) -> tuple[float, ...]:
    """Return the second of the whole recording at which each scan begins, as the TR column states, and its end.

    The result is () for a file that cannot be read, that has no TRs, or whose seconds do not restart.
    """
    try:
        rows: list[Row] = read_rows(path)
    except DataError:
        return ()
    numbers = scans_of_rows(rows)
    n_scans = max(numbers, default=0) + 1
    starts_s = [0.0]
    for n in range(1, n_scans):
        row = rows[numbers.index(n)]
        if row.first_tr is None:
            return ()
        starts_s.append(round((row.first_tr - 1) - row.segment.start_s / LAB_TR_S) * LAB_TR_S)
    if n_scans == 1:
        return ()
    last_s = max(row.segment.end_s for row, n in zip(rows, numbers, strict=True) if n == n_scans - 1)
    return (*starts_s, starts_s[-1] + last_s)
