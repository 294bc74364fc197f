"""Change the sampling interval of a series so that its integral over time stays: any TR to any other.

A row is the mean of its interval. Between rows the integral is a cubic through its values at the edges of rows, whose
slopes there are the means of the two rows next to it; so a longer interval averages rows, and a shorter one follows
their trend. T rows, X columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
ROUNDING = 1e-6


def n_rows(n_trs: int, from_s: float, to_s: float) -> int:
    """Return the whole intervals of to_s that n_trs rows of from_s cover."""
    return int(n_trs * from_s / to_s + ROUNDING)


def resample(series_TX: Singles, from_s: float, to_s: float) -> Singles:
    """Return the series in rows of to_s seconds, as many as fit."""
    parts = list(resample_parts([series_TX], len(series_TX), from_s, to_s))
    return np.concatenate([series_TX[:0], *parts])


def resample_parts(parts: Iterable[Singles], n_trs: int, from_s: float, to_s: float) -> Iterator[Singles]:
    """Yield the resampled series of consecutive parts that have n_trs rows together; only a few rows are kept."""
    if from_s == to_s:
        yield from parts
        return
    ratio, n_out = to_s / from_s, n_rows(n_trs, from_s, to_s)
    rows_NX: Singles | None = None
    first_row, n_yielded, n_received = 0, 0, 0
    for part_TX in parts:
        rows_NX = part_TX if rows_NX is None else np.concatenate([rows_NX, part_TX])
        n_received += len(part_TX)
        # The slope at an edge needs the row behind it, which may not be here yet.
        ready = n_out if n_received >= n_trs else min(n_out, int((n_received - 1) / ratio))
        if ready > n_yielded:
            edges = np.minimum(np.arange(n_yielded, ready + 1) * ratio, n_trs)
            yield _means_between(rows_NX, edges - first_row, ratio)
            n_yielded = ready
            drop = max(0, int(n_yielded * ratio) - 2 - first_row)
            rows_NX, first_row = rows_NX[drop:], first_row + drop


def _means_between(rows_NX: Singles, edges_M: NDArray[np.float64], ratio: float) -> Singles:
    """Return the mean (M - 1, X) of each interval between edges, which are in rows."""
    rows = rows_NX.astype(np.float64)
    total_EX = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    slope_EX = np.concatenate([rows[:1], 0.5 * (rows[:-1] + rows[1:]), rows[-1:]])
    row_M = np.minimum(edges_M.astype(int), len(rows) - 1)
    u = (edges_M - row_M)[:, None]
    at_edges = (
        total_EX[row_M] * (1 + 2 * u) * (1 - u) ** 2
        + slope_EX[row_M] * u * (1 - u) ** 2
        + total_EX[row_M + 1] * u**2 * (3 - 2 * u)
        + slope_EX[row_M + 1] * u**2 * (u - 1)
    )
    return np.asarray(np.diff(at_edges, axis=0) / ratio, np.float32)
