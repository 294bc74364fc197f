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

    A workbook whose seconds restart states the TR of each restart. Without one, films that together last as long as the
    file show where it is divided.
    """
    starts_s = next((s for path in texts if (s := _restarts_s(path))), ())
    films = sorted((m for m in media if m.has_pictures), key=lambda m: [t.zfill(8) for t in tokens(m.path.stem)])

    def borders(n_trs: int, tr_s: float) -> tuple[int, ...]:
        stated = tuple(round(s / tr_s) for s in starts_s)
        return _possible(stated, n_trs) or _possible(_borders_of_films([f.seconds for f in films], n_trs, tr_s), n_trs)

    return borders


def _possible(borders: tuple[int, ...], n_trs: int) -> tuple[int, ...]:
    """Return the borders if each scan between them is long enough, else none."""
    edges = (0, *borders, n_trs)
    long_enough = all(b - a >= FEWEST_TRS for a, b in itertools.pairwise(edges))
    return borders if long_enough else ()


def _borders_of_films(seconds: Sequence[float], n_trs: int, tr_s: float) -> tuple[int, ...]:
    """Return the borders of films shown one after another; () unless they together last as long as the file."""
    if len(seconds) < 2 or abs(sum(seconds) / tr_s - n_trs) > SAME_LENGTH_TRS * len(seconds):
        return ()
    return tuple(round(sum(seconds[: n + 1]) / tr_s) for n in range(len(seconds) - 1))


def _restarts_s(path: Path) -> tuple[float, ...]:
    """Return the second of the whole recording at which each scan but the first begins, as the TR column states."""
    try:
        rows: list[Row] = read_rows(path)
    except DataError:
        return ()
    numbers = scans_of_rows(rows)
    starts_s = []
    for n in range(1, max(numbers, default=0) + 1):
        row = rows[numbers.index(n)]
        if row.first_tr is None:
            return ()
        starts_s.append(round((row.first_tr - 1) - row.segment.start_s / LAB_TR_S) * LAB_TR_S)
    return tuple(starts_s)
