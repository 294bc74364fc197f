"""Fit curves that fall towards a floor: exponentials with or without a knee, power laws, two exponentials. Pure.

Floor and heights follow linearly from the rates, so only a grid of rates is searched. Lengths are in epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from operator import mul
from typing import NamedTuple

N_RATES = 24
SLOWEST, FASTEST = 0.02, 8.0
"""Smallest and largest rate of the grid, times the span of x."""
EXPONENTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Exponents of the power laws."""
ONSETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Onsets of the power laws, divided by the span of x."""
PAIR_RATES = (0.1, 0.4, 1.2, 3.0, 8.0, 20.0, 60.0)
"""Rates of sums of two exponentials, times the span of x."""
CLEARLY = 1.5

Points = Sequence[tuple[float, float]]


class ExponentialFit(NamedTuple):
    """A fitted exponential; it stays constant after its knee. error: sum of squared residuals."""

    floor: float
    height: float
    rate: float
    knee: float
    error: float

    def at(self, x: float) -> float:
        """Return the curve at x."""
        return self.floor + self.height * math.exp(-self.rate * min(x, self.knee))


def from_steepest(points: Points) -> Points:
    """Return the points from the steepest fall on, if that is clearly steeper than the first, as after a warm-up."""
    drops = [a - b for (_, a), (_, b) in pairwise(points)]
    steepest = max(drops, default=0.0)
    return points[drops.index(steepest) :] if drops and steepest > CLEARLY * drops[0] else points


def falls(points: Points, knee: float = math.inf) -> list[ExponentialFit]:
    """Return the best fit for each rate, if it falls. points: at least three, x ascending from 0 or more."""
    span = max(1e-9, min(knee, points[-1][0]) - points[0][0])
    x_to_knee = [min(x, knee) for x, _ in points]
    values = _Values.of([y for _, y in points])
    fits = []
    for i in range(N_RATES):
        rate = SLOWEST * (FASTEST / SLOWEST) ** (i / (N_RATES - 1)) / span
        floor, height, error = _line([math.exp(-rate * x) for x in x_to_knee], values)
        if height > 0:
            fits.append(ExponentialFit(floor, height, rate, knee, error))
    return fits


def best_fall(points: Points, knee: float = math.inf) -> ExponentialFit:
    """Return the curve nearest to the points; a constant if none falls."""
    mean = sum(y for _, y in points) / len(points)
    constant = ExponentialFit(mean, 0.0, 0.0, knee, sum((y - mean) ** 2 for _, y in points))
    return min([constant, *falls(points, knee)], key=lambda fall: fall.error)


def best_bent(points: Points, knees: Sequence[float]) -> ExponentialFit:
    """Return the nearest curve that stops falling at one of the knees."""
    return min((best_fall(points, knee) for knee in knees), key=lambda fall: fall.error)


def lowest_at(points: Points, x: float) -> float:
    """Return how low the curve may come by x, over all fits whose error is not much above the smallest.

    A fit may add the residual variance times the square of Student's 97.5 % quantile: few points leave much open.
    Power laws count too, because they fall for longer than exponentials.
    """
    best, freedom = best_fall(points), max(1, len(points) - 3)
    powers = _power_laws(points, x)
    largest_error = min([best.error, *(error for error, _ in powers)]) * (1 + _student(freedom) ** 2 / freedom)
    lowest = [fall.at(x) for fall in [best, *falls(points)] if fall.error <= largest_error]
    return min([*lowest, *(value for error, value in powers if error <= largest_error)])


def smooth_error(points: Points) -> float:
    """Return the smallest sum of squared residuals of all smooth curves."""
    return min(
        [best_fall(points).error, *(error for error, _ in _power_laws(points, points[-1][0])), _two_speeds(points)]
    )


def _power_laws(points: Points, x: float) -> list[tuple[float, float]]:
    """Return (error, value at x) for each power law floor + height · (1 + (t - t0) / onset)^-exponent that falls."""
    start = points[0][0]
    span = max(1e-9, points[-1][0] - start)
    values = _Values.of([y for _, y in points])
    fits = []
    for exponent in EXPONENTS:
        for onset in ONSETS:

            def shape(t: float, onset: float = onset * span, exponent: float = exponent) -> float:
                return float((1 + (t - start) / onset) ** -exponent)

            floor, height, error = _line([shape(t) for t, _ in points], values)
            if height > 0:
                fits.append((error, floor + height * shape(x)))
    return fits


def _two_speeds(points: Points) -> float:
    """Return the smallest error of floor + a fast and a slow exponential with positive heights."""
    start, y = points[0][0], [value for _, value in points]
    span = max(1e-9, points[-1][0] - start)
    shapes = [[math.exp(-rate / span * (t - start)) for t, _ in points] for rate in PAIR_RATES]
    return min((_plane(slow, fast, y) for i, slow in enumerate(shapes) for fast in shapes[i + 1 :]), default=math.inf)


def _plane(first: Sequence[float], second: Sequence[float], y: Sequence[float]) -> float:
    """Return the error of least squares of y on two shapes; infinite if a height is negative."""
    n = len(y)
    mean_1, mean_2, mean_y = sum(first) / n, sum(second) / n, sum(y) / n
    a, b, c = [v - mean_1 for v in first], [v - mean_2 for v in second], [v - mean_y for v in y]
    aa, bb, ab = _dot(a, a), _dot(b, b), _dot(a, b)
    ac, bc = _dot(a, c), _dot(b, c)
    determinant = aa * bb - ab * ab
    if determinant <= 1e-12 * aa * bb:
        return math.inf
    height_1, height_2 = (ac * bb - bc * ab) / determinant, (bc * aa - ac * ab) / determinant
    return _dot(c, c) - height_1 * ac - height_2 * bc if min(height_1, height_2) > 0 else math.inf


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return float(sum(map(mul, a, b)))


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, within 3 % from two degrees of freedom on."""
    return 1.96 + 2.4 / freedom + 4.5 / freedom**2


class _Values(NamedTuple):
    """The values that shapes are fitted to: many shapes to the same values."""

    mean: float
    deviations: Sequence[float]

    @classmethod
    def of(cls, y: Sequence[float]) -> _Values:
        """Centre the values."""
        mean = sum(y) / len(y)
        return cls(mean, [value - mean for value in y])


def _line(shape: Sequence[float], values: _Values) -> tuple[float, float, float]:
    """Return floor, height and error of ordinary least squares of the values on one shape."""
    mean = sum(shape) / len(shape)
    deviations = [g - mean for g in shape]
    spread = _dot(deviations, deviations)
    height = _dot(deviations, values.deviations) / spread if spread else 0.0
    residuals = [v - height * g for g, v in zip(deviations, values.deviations, strict=True)]
    return values.mean - height * mean, height, _dot(residuals, residuals)
