"""Average rows of features over the TRs of a scan. N rows, F features, T TRs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def row_means(rows_NF: NDArray[Any], edges_T1: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (T, F) means of the rows between the edges; a row in two TRs counts by its part in each."""
    total_NF = np.concatenate([np.zeros((1, rows_NF.shape[1])), np.cumsum(rows_NF, axis=0, dtype=np.float64)])
    edges_T1 = edges_T1.clip(0, len(rows_NF))
    whole_T1 = np.minimum(edges_T1.astype(int), len(rows_NF) - 1)
    reached_T1F = total_NF[whole_T1] + (edges_T1 - whole_T1)[:, None] * rows_NF[whole_T1]
    return np.asarray(np.diff(reached_T1F, axis=0) / np.diff(edges_T1)[:, None])
