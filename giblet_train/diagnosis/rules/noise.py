"""Noise of a curve, and windows that are wide enough for it. Pure.

Rules compare medians of windows with the jitter of the same curve, so that a noisy run is not reported for its noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""
SECOND_DIFFERENCE = math.sqrt(6)
"""Standard deviation of the second difference of independent values divided by that of the values."""
TENTATIVE = 0.5
"""Confidence in a finding that a healthy run can show for a while, such as a rise before a second descent."""


def jitter(values: Sequence[float]) -> float:
    """Return the standard deviation of the noise around a smooth course; 0 for fewer than four values.

    Second differences remove level and trend; their median is insensitive to spikes.
    """
    if len(values) < 4:
        return 0.0
    differences = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return MAD_TO_SD * median(differences) / SECOND_DIFFERENCE


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Return the median of each window of a width; the first windows are shorter."""
    return [median(values[max(0, i - width + 1) : i + 1]) for i in range(len(values))]


def printed_places(values: Sequence[float]) -> int:
    """Return the smallest number of decimal places with which all values can have been printed; 16 at most."""
    return next((n for n in range(16) if all(math.isclose(round(v, n), v, rel_tol=1e-9) for v in values)), 16)


def median_error(sd: float, n: int) -> float:
    """Return the standard error of the median of n values."""
    return sd if n < 2 else 1.2533 * sd / math.sqrt(n)
