"""Axes of a chart: round ticks, and figures with enough digits to distinguish neighbouring values."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from giblet_train.schema.health import duration
from giblet_tui.monitor.metric_columns import Range

SIGNIFICANT = 4
MOST_DECIMALS = 9
SMALL, LARGE = 1e-3, 1e7
FEWEST_ROWS, MOST_APART = 4, 7
LEAST_SPAN = 1e-9
MANY_TIMES = 10.0


def ticks(span: Range, count: int) -> tuple[float, ...]:
    """Return at most `count` round values (1, 2 or 5 times a power of ten apart) inside the range, ascending."""
    if count < 1 or not math.isfinite(span.span) or span.span <= 0:
        return ()
    rough = span.span / count
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10, 20):
        pitch = factor * power
        first, last = math.ceil(span.first / pitch - 1e-9), math.floor(span.last / pitch + 1e-9)
        if last - first + 1 <= count:
            return tuple(index * pitch for index in range(first, last + 1))
    return ()


class EvenAxis(NamedTuple):
    """A range whose ticks fall on rows at even distances."""

    span: Range
    places: tuple[float, ...]
    """The ticks, ascending."""
    pitch: float
    row_value: float
    """Difference between two rows."""

    def row_of(self, place: float) -> int:
        """Return the row of a tick, from the top."""
        return round((self.span.last - place) / self.row_value)


def even_axis(span: Range, n_rows: int) -> EvenAxis | None:
    """Return the narrowest axis of `n_rows` rows around the span with round ticks a whole number of rows apart.

    It has two ticks at least, for one does not give a scale. None if the span is too small for its size to be computed
    with, or if there are too few rows.
    """
    if n_rows < FEWEST_ROWS or not span.span > LEAST_SPAN * max(abs(span.first), abs(span.last)):
        return None
    least = span.span / (n_rows - 1)
    aparts = range(2, max(3, min(MOST_APART, n_rows)))
    steps = {(pitch / apart, apart) for apart in aparts for pitch in _nice_from(least * apart)}
    for row_value, apart in sorted(steps):
        last = math.ceil(span.last / row_value - 1e-6) * row_value
        first = last - row_value * (n_rows - 1)
        if first < 0 <= span.first:  # what is never negative has no ticks below zero
            first, last = 0.0, row_value * (n_rows - 1)
        if first <= span.first + 1e-6 * span.span:
            pitch = row_value * apart
            lowest, highest = math.ceil(first / pitch - 1e-6), math.floor(last / pitch + 1e-6)
            places = tuple(index * pitch for index in range(lowest, highest + 1))
            if len(places) < 2:
                continue
            return EvenAxis(Range(first, last), places, pitch, row_value)
    return None


def _nice_from(value: float) -> tuple[float, float, float]:
    """Return the three smallest of 1, 2 and 5 times a power of ten that are not below the value."""
    power = 10.0 ** math.floor(math.log10(value))
    above = [factor * power for factor in (1, 2, 5, 10, 20, 50) if factor * power >= value * (1 - 1e-9)]
    return above[0], above[1], above[2]


def log_ticks(span: Range, count: int) -> tuple[float, ...]:
    """Return ticks of an axis of decimal logarithms: whole decades, or round values if it spans less than two."""
    decades = [float(d) for d in range(math.ceil(span.first), math.floor(span.last) + 1)]
    if len(decades) >= 2:
        stride = math.ceil(len(decades) / max(1, count))
        return tuple(decades[::stride])
    plain = ticks(Range(10**span.first, 10**span.last), count)
    return tuple(math.log10(value) for value in plain if value > 0)


def figure(value: float, spread: float = 0.0, significant: int = SIGNIFICANT) -> str:
    """Format a number with enough decimals to show a five-hundredth of `spread`, and at least `significant` digits.

    275824.6 and 275958.9 in a spread of 134 read `275,824.6` and `275,958.9`. Not finite reads `nan`.
    """
    if not math.isfinite(value):
        return "nan"
    if value == 0:
        return "0"
    size = abs(value)
    if size < SMALL or size >= LARGE:
        return scientific(value)
    decimals = significant - 1 - math.floor(math.log10(size))
    if spread > 0:
        decimals = max(decimals, -math.floor(math.log10(spread / 500)))
    return f"{value:,.{min(MOST_DECIMALS, max(0, decimals))}f}"


def pair(first: float, second: float, room: int) -> tuple[str, str]:
    """Format two figures for `room` cells: where that is tight, in the fewest digits in which they differ."""
    exact = figure(first, significant=3), figure(second, significant=3)
    if len(exact[0]) + len(exact[1]) <= room or min(abs(first), abs(second)) < 1000:
        return exact
    thousands = [(f"{first / 1000:,.{d}f}k", f"{second / 1000:,.{d}f}k") for d in (1, 2, 3)]
    return next((short for short in thousands if short[0] != short[1]), thousands[0])


def change(value: float, reference: float) -> str:
    """Format a value relative to a reference as `-36%`, with a decimal below 10 %; as `12×` from ten times on."""
    if not reference or not math.isfinite(value):
        return "–"
    ratio = value / reference
    if ratio >= MANY_TIMES:
        return f"{ratio:.0f}×" if ratio < 1000 else f"{scientific(ratio)}×"
    digits = 1 if abs(ratio - 1) < 0.1 else 0
    return f"{ratio - 1:+.{digits}%}"


def scientific(value: float) -> str:
    """Format a number as `1.0e-3`: two significant digits and a short exponent, as learning rates are written."""
    if not math.isfinite(value):
        return "nan"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def tick_label(value: float, pitch: float) -> str:
    """Format a tick with the decimals that its pitch needs, large counts as `12k`."""
    if pitch <= 0 or not math.isfinite(value):
        return figure(value)
    if value and (abs(value) < SMALL or abs(value) >= LARGE):
        return scientific(value)
    if abs(value) >= 10_000 and pitch >= 100:
        return f"{value / 1000:,.{1 if pitch % 1000 else 0}f}k"
    decimals = max(0, -math.floor(math.log10(pitch) + 1e-9))
    return f"{value:,.{min(MOST_DECIMALS, decimals)}f}"


def span_label(seconds: float) -> str:
    """Format a tick of an axis of seconds since the launch."""
    return duration(seconds)


def clock_label(at: float) -> str:
    """Format a tick of an axis of wall time, in the laptop's time zone."""
    return time.strftime("%H:%M", time.localtime(at))
