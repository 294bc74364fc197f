"""Curves that fall towards a floor: least squares of y = floor + height · exp(-rate · x), bent at a knee or not.

Floor and height follow linearly from the rate, so a grid of rates is all the search there is. Lengths are in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

N_RATES = 24
SLOWEST, FASTEST = 0.02, 8.0
"""Rates tried, times the span of x."""
CLEARLY = 1.5

Points = Sequence[tuple[float, float]]


class ExponentialFit(NamedTuple):
    """A fitted curve; after its knee it stays where it is. error: the sum of squared residuals."""

    floor: float
    height: float
    rate: float
    knee: float
    error: float

    def at(self, x: float) -> float:
        """The curve at x."""
        return self.floor + self.height * math.exp(-self.rate * min(x, self.knee))


def from_steepest(points: Points) -> Points:
    """The points from the steepest fall on, where that is clearly steeper than the first one, as after a warm-up."""
    drops = [a - b for (_, a), (_, b) in pairwise(points)]
    steepest = max(drops, default=0.0)
    return points[drops.index(steepest) :] if drops and steepest > CLEARLY * drops[0] else points


def falls(points: Points, knee: float = math.inf) -> list[ExponentialFit]:
    """The best fit for each rate tried, of those that fall. points: at least three, x ascending from 0 or more."""
    span = max(1e-9, min(knee, points[-1][0]) - points[0][0])
    found = []
    for i in range(N_RATES):
        rate = SLOWEST * (FASTEST / SLOWEST) ** (i / (N_RATES - 1)) / span
        fit = _linear(points, rate, knee)
        if fit.height > 0:
            found.append(fit)
    return found


def best_fall(points: Points, knee: float = math.inf) -> ExponentialFit:
    """The curve nearest to the points; a constant where none falls."""
    mean = sum(y for _, y in points) / len(points)
    constant = ExponentialFit(mean, 0.0, 0.0, knee, sum((y - mean) ** 2 for _, y in points))
    return min([constant, *falls(points, knee)], key=lambda fall: fall.error)


def best_bent(points: Points, knees: Sequence[float]) -> ExponentialFit:
    """The nearest curve that stops falling at one of the knees."""
    return min((best_fall(points, knee) for knee in knees), key=lambda fall: fall.error)


def lowest_at(points: Points, x: float) -> float:
    """How low the curve may come by x: over all fits whose error is not much above the best one's.

    A fit may add the residual variance times the square of Student's 97.5 % quantile: few points leave much open.
    """
    best, freedom = best_fall(points), max(1, len(points) - 3)
    allowed = best.error * (1 + _student(freedom) ** 2 / freedom)
    return min(fall.at(x) for fall in [best, *falls(points)] if fall.error <= allowed)


def _student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, within 3 % from two degrees of freedom on."""
    return 1.96 + 2.4 / freedom + 4.5 / freedom**2


def _linear(points: Points, rate: float, knee: float) -> ExponentialFit:
    """Ordinary least squares of y on exp(-rate · min(x, knee))."""
    shape = [math.exp(-rate * min(x, knee)) for x, _ in points]
    n = len(points)
    mean_g, mean_y = sum(shape) / n, sum(y for _, y in points) / n
    spread = sum((g - mean_g) ** 2 for g in shape)
    product = sum((g - mean_g) * (y - mean_y) for g, (_, y) in zip(shape, points, strict=True))
    height = product / spread if spread else 0.0
    floor = mean_y - height * mean_g
    error = sum((y - floor - height * g) ** 2 for g, (_, y) in zip(shape, points, strict=True))
    return ExponentialFit(floor, height, rate, knee, error)
