"""The 95 % interval of a correlation of one series, whose ends a moving-block bootstrap draws less often.

T rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from giblet_train.evaluation.encoding import N_DRAWS
from giblet_train.evaluation.metrics import BLOCK_TRS, FEWEST_BLOCKS, block_interval


def centred_interval(products_T: NDArray[np.float64]) -> tuple[float, float]:
    """Return the interval of a sum over rows, shifted by the exact bias of the bootstrap (Lahiri 2003, section 2.5).

    products_T: each row's contribution, such as `metrics.products_of`.
    """
    low, high = block_interval(products_T, N_DRAWS, np.random.default_rng(0))
    bias = float((_expected_draws(len(products_T)) - 1.0) @ products_T)
    return low - bias, high - bias


def _expected_draws(n_rows: int) -> NDArray[np.float64]:
    """Return (T,): how often `block_interval` draws each row on average."""
    length = max(1, min(BLOCK_TRS, n_rows // FEWEST_BLOCKS))
    n_starts = n_rows - length + 1
    draws_T = np.zeros(n_rows)
    for first in range(0, n_rows, length):
        n_used = min(length, n_rows - first)
        for offset in range(n_used):
            draws_T[offset : offset + n_starts] += 1.0 / n_starts
    return draws_T
