"""95 % intervals of a correlation, by a moving-block bootstrap over TRs.

T TRs or rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_TRS = 20
FEWEST_BLOCKS = 3
N_DRAWS = 1000


def block_length(n_trs: int) -> int:
    """Return the TRs of a block; blocks are shortened if fewer than FEWEST_BLOCKS fit, or all draws would be equal."""
    return max(1, min(BLOCK_TRS, n_trs // FEWEST_BLOCKS))


def block_interval(
    products_T: NDArray[np.floating[Any]], n_draws: int = N_DRAWS, rng: np.random.Generator | None = None
) -> tuple[float, float]:
    """Return the interval of a sum over TRs by moving-block bootstrap (Künsch 1989).

    Args:
        products_T: each TR's contribution to the figure, such as `metrics.products_of`.
        rng: None for the same draws in every call.
    """
    n_trs = len(products_T)
    length = block_length(n_trs)
    n_blocks = -(-n_trs // length)
    random = np.random.default_rng(0) if rng is None else rng
    starts = random.integers(0, n_trs - length + 1, size=(n_draws, n_blocks))
    index = (starts[..., None] + np.arange(length)).reshape(n_draws, -1)[:, :n_trs]
    sums = products_T[index].sum(axis=1)
    low, high = np.quantile(sums, [0.025, 0.975])
    return float(low), float(high)


def centred_interval(products_T: NDArray[np.float64]) -> tuple[float, float]:
    """Return `block_interval` shifted by the exact bias of the bootstrap (Lahiri 2003, section 2.5).

    The bootstrap draws the ends of a series less often than its middle. Of a short series, such as one person's scan,
    the ends may carry much of the correlation.
    """
    low, high = block_interval(products_T)
    bias = float((_expected_draws(len(products_T)) - 1.0) @ products_T)
    return low - bias, high - bias


def _expected_draws(n_rows: int) -> NDArray[np.float64]:
    """Return (T,): how often `block_interval` draws each row on average."""
    length = block_length(n_rows)
    n_starts = n_rows - length + 1
    draws_T = np.zeros(n_rows)
    for first in range(0, n_rows, length):
        n_used = min(length, n_rows - first)
        for offset in range(n_used):
            draws_T[offset : offset + n_starts] += 1.0 / n_starts
    return draws_T
