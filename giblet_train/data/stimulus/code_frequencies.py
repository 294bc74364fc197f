"""Training frequency of each code: the best constant prediction for categorical features.

R training TRs, T TRs, B books, Q codes in a book. Features are the shares of a TR's moments that have each code,
(T, B·Q).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.errors import DataError

LEAST_NATS = 0.01
CATEGORICAL_MIN_RANGE, CATEGORICAL_MAX_RANGE = 16, 1 << 24
"""No book has more codes; above, numbers in single precision are whole anyway."""
CATEGORICAL_MAX_LAG1 = 0.3

Floats = NDArray[np.floating[Any]]


def unigram(shares_RF: Floats, n_codes: int, modality: str) -> NDArray[np.float32]:
    """Return (B, Q): each code's share of the training TRs and of one more TR spread evenly over the book.

    The extra TR keeps an unseen code possible, so its loss stays finite. The unit is a TR because the moments within
    one are much alike. Raises DataError if the codes never change.
    """
    n_trs = len(shares_RF)
    shares_BQ = shares_RF.reshape(n_trs, -1, n_codes).mean(axis=0, dtype=np.float64)
    smooth_BQ: Floats = (n_trs * shares_BQ + 1.0 / n_codes) / (n_trs + 1.0)
    if code_cross_entropy(shares_BQ, shares_BQ) < LEAST_NATS:
        raise DataError(
            f"The codes of {modality} are the same at every moment of the training TRs.",
            f"Bring others in data.features.{modality}.",
        )
    return smooth_BQ.astype(np.float32)


def code_cross_entropy(shares_TF: Floats, probability_TBQ: Floats) -> float:
    """Return the cross-entropy per code: the mean over TRs, their moments and books of -log p(code).

    Args:
        probability_TBQ: One distribution over each book, (B, Q), or one for each TR.
    """
    log_TBQ = np.log(np.maximum(probability_TBQ, np.finfo(np.float32).tiny), dtype=np.float64)
    return float(-(shares_TF.reshape(-1, *log_TBQ.shape[-2:]) * log_TBQ).sum(axis=-1).mean())


def looks_categorical(raw_RF: NDArray[np.floating[Any]]) -> bool:
    """Return True if the values look like codes: integers over a wide range, unrelated from one row to the next."""
    values = raw_RF.astype(np.float64)
    in_range = CATEGORICAL_MIN_RANGE <= np.ptp(values) <= CATEGORICAL_MAX_RANGE
    if not in_range or not np.array_equal(values, np.rint(values)):
        return False
    centred = values - values.mean(axis=0)
    power = (centred**2).sum()
    lag1 = (centred[1:] * centred[:-1]).sum() / power if power else 1.0
    return bool(lag1 < CATEGORICAL_MAX_LAG1)
