"""Axes of a chart: round ticks, and figures with as many digits as tell neighbouring values apart."""

from __future__ import annotations

import math
import time

from giblet_train.schema.health import duration
from giblet_tui.monitor.metric_columns import Range

SIGNIFICANT = 4
MOST_DECIMALS = 9
SMALL, LARGE = 1e-3, 1e7


def ticks(span: Range, count: int) -> tuple[float, ...]:
    """At most `count` round values (1, 2 or 5 times a power of ten apart) inside the range, ascending."""
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


def log_ticks(span: Range, count: int) -> tuple[float, ...]:
    """Ticks of an axis that holds decimal logarithms: whole decades, or round values where it spans less than two."""
    decades = [float(d) for d in range(math.ceil(span.first), math.floor(span.last) + 1)]
    if len(decades) >= 2:
        stride = math.ceil(len(decades) / max(1, count))
        return tuple(decades[::stride])
    plain = ticks(Range(10**span.first, 10**span.last), count)
    return tuple(math.log10(value) for value in plain if value > 0)


def figure(value: float, spread: float = 0.0, significant: int = SIGNIFICANT) -> str:
    """A number with enough decimals to show a five-hundredth of `spread`, and at least so many significant digits.

    275824.6 and 275958.9 in a spread of 134 read `275,824.6` and `275,958.9`. Not finite reads `nan`.
    """
    if not math.isfinite(value):
        return "nan"
    if value == 0:
        return "0"
    size = abs(value)
    if size < SMALL or size >= LARGE:
        return scientific(value)
    wanted = significant - 1 - math.floor(math.log10(size))
    if spread > 0:
        wanted = max(wanted, -math.floor(math.log10(spread / 500)))
    return f"{value:,.{min(MOST_DECIMALS, max(0, wanted))}f}"


def pair(first: float, second: float, room: int) -> tuple[str, str]:
    """Two figures side by side in `room` cells: where that is tight, in as few digits as still tell them apart."""
    exact = figure(first, significant=3), figure(second, significant=3)
    if len(exact[0]) + len(exact[1]) <= room or min(abs(first), abs(second)) < 1000:
        return exact
    thousands = [(f"{first / 1000:,.{d}f}k", f"{second / 1000:,.{d}f}k") for d in (1, 2, 3)]
    return next((short for short in thousands if short[0] != short[1]), thousands[0])


def scientific(value: float) -> str:
    """`1.0e-3`: two significant digits and a short exponent, as learning rates are written."""
    if not math.isfinite(value):
        return "nan"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def tick_label(value: float, pitch: float) -> str:
    """A tick with the decimals that its pitch needs, large counts as `12k`."""
    if pitch <= 0 or not math.isfinite(value):
        return figure(value)
    if value and (abs(value) < SMALL or abs(value) >= LARGE):
        return scientific(value)
    if abs(value) >= 10_000 and pitch >= 100:
        return f"{value / 1000:,.{1 if pitch % 1000 else 0}f}k"
    decimals = max(0, -math.floor(math.log10(pitch) + 1e-9))
    return f"{value:,.{min(MOST_DECIMALS, decimals)}f}"


def span_label(seconds: float) -> str:
    """A tick of an axis of seconds since the launch."""
    return duration(seconds)


def clock_label(at: float) -> str:
    """A tick of an axis of wall time, in the laptop's time zone."""
    return time.strftime("%H:%M", time.localtime(at))
