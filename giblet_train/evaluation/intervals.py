"""Intervals of a figure that is a sum over autocorrelated TRs, such as a correlation.

T TRs or rows, C cosines.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Probability that an interval contains the truth."""
FEWEST_COSINES = 3


def interval_of_sum(contributions_T: NDArray[np.floating[Any]], level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a sum over TRs whose contributions are autocorrelated; NaN for fewer than two TRs.

    The long-run variance is the mean power of the slowest cosines of the contributions, and the interval is that of a t
    distribution with as many degrees of freedom (Lazarus et al. 2018). A bootstrap of the few blocks of a test block
    is too narrow.

    contributions_T: each TR's contribution to the figure, such as `metrics.contributions_of`.
    """
    n_trs = len(contributions_T)
    n_cosines = min(n_trs - 1, max(FEWEST_COSINES, round(0.4 * n_trs ** (2 / 3))))
    if n_cosines < 1:
        return math.nan, math.nan
    phase_T = (np.arange(n_trs) + 0.5) / n_trs
    cosine_CT = np.cos(math.pi * np.outer(np.arange(1, n_cosines + 1), phase_T))
    # A cosine has the mean square 1/2, so this is the variance of the sum.
    variance = 2.0 * float(((cosine_CT @ contributions_T) ** 2).mean())
    half = t_quantile((1.0 + level) / 2.0, n_cosines) * math.sqrt(variance)
    total = float(contributions_T.sum())
    return total - half, total + half


def t_quantile(probability: float, n_free: int) -> float:
    """Return a quantile of Student's t by the expansion 26.7.5 of Abramowitz and Stegun (1964)."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return float(z + sum(term / n_free**power for power, term in enumerate(terms, 1)))
