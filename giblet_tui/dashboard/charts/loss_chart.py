"""A loss chart as rows of text: which range it spans, its lines from back to front, its labels. Pure.

The y axis holds decimal logarithms when the lens asks for them; points are given as they were recorded.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from giblet_tui.dashboard.charts import axis, braille
from giblet_tui.dashboard.charts.braille import Layer, Mark, Row, Run
from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.monitor.metric_columns import Floats, Points, Range, gaps, log10, reduced

GUTTER = 8
SMALLEST_PLOT = 6
HEADROOM = 0.06
NEAR_CONSTANT = 0.5
NOISE_PERCENT = 4.0
CLOSEST_LABELS = 1.45


@dataclass(frozen=True, eq=False)
class Chart:
    """What one panel draws. constant: the loss of the best constant, 0 when unknown. others: runs to compare with.

    replaced: steps as they were before a resume made them again. resumed: where on the x axis resumes began.
    empty: what to say while there is nothing to draw.
    """

    component: str
    lens: Viewport
    whole: Range
    raw: Points
    smooth: Points
    held_out: Points
    constant: float = 0.0
    others: Sequence[Points] = ()
    replaced: Sequence[Points] = ()
    resumed: Sequence[float] = ()
    empty: str = ""

    @property
    def window(self) -> Range:
        """The visible part of the x axis."""
        return self.lens.window(self.whole)

    @property
    def cursor(self) -> float | None:
        """Where the crosshair stands on the x axis."""
        return None if self.lens.cursor is None else self.whole.first + self.lens.cursor * self.whole.span


def rows(chart: Chart, width: int, height: int) -> list[Row]:
    """`height` rows of `width` cells: labels of y, the plot, and a last row with labels of x.

    Nothing where that is too small to tell anything.
    """
    plot_width, plot_height = width - GUTTER, height - 1
    if plot_width < SMALLEST_PLOT or plot_height < 1:
        return []
    if not len(chart.smooth.x_N) and not len(chart.held_out.x_N):
        said: list[Row] = [(Run(words, "axis"),) for words in textwrap.wrap(chart.empty, width)[:height]]
        return [*said, *[()] * (height - len(said))]
    y_range = range_of(chart, plot_width)
    labels = y_labels(chart, y_range, plot_height)
    gutter = max([GUTTER, *(len(label) + 2 for label in labels.values())])
    marks = [*resume_marks(chart, y_range), *nan_marks(chart, y_range, width - gutter)]
    plot = braille.draw(layers(chart), chart.window, y_range, width - gutter, plot_height, marks, chart.cursor)
    gutters = [f"{labels.get(row, ''):>{gutter - 2}} {'┤' if row in labels else '│'}" for row in range(plot_height)]
    drawn = [(Run(gutter, "axis"), *cells) for gutter, cells in zip(gutters, plot, strict=True)]
    return [*drawn, (Run(x_labels(chart, width, gutter), "axis"),)]


def layers(chart: Chart) -> list[Layer]:
    """From back to front: best constant, every step, other runs, what resumes replaced, validation, smoothed course."""
    name, log = chart.component, chart.lens.log
    drawn = []
    if chart.constant > 0:
        ends = np.array([chart.window.first, chart.window.last])
        drawn.append(Layer(_scaled(Points(ends, np.full(2, chart.constant)), log), "rule", "dotted"))
    if chart.lens.decay:
        drawn.append(Layer(_scaled(chart.raw, log), "faint"))
    drawn += [Layer(_scaled(other, log), "other", "dashdot") for other in chart.others]
    drawn += [Layer(_scaled(again, log), f"{name} replaced") for again in chart.replaced]
    drawn.append(Layer(_scaled(chart.held_out, log), f"{name} validation", "dashed"))
    return [*drawn, Layer(_scaled(chart.smooth, log), f"{name} train")]


def range_of(chart: Chart, plot_width: int) -> Range:
    """What the courses span in the window, of the noise only its bulk; with the best constant when it is near."""
    courses = (chart.smooth, chart.held_out, *chart.others)
    spans = [reduced(points, chart.window, 2 * plot_width) for points in courses]
    noise = reduced(chart.raw, chart.window, 2 * plot_width)
    bounds = [value for span in spans for side in span for value in _ends(side)]
    bounds += [*_bulk(noise.low_C, NOISE_PERCENT), *_bulk(noise.high_C, 100 - NOISE_PERCENT)]
    if chart.lens.log:
        bounds = [math.log10(b) for b in bounds if b > 0]
    if not bounds:
        return Range(0.0, 1.0)
    low, high = min(bounds), max(bounds)
    if chart.constant > 0:
        level = math.log10(chart.constant) if chart.lens.log else chart.constant
        if abs(level - (low + high) / 2) <= (0.5 + NEAR_CONSTANT) * (high - low):
            low, high = min(low, level), max(high, level)
    margin = HEADROOM * (high - low) or max(abs(high) * 0.01, 1e-9)
    return Range(low - margin, high + margin)


def y_labels(chart: Chart, y_range: Range, plot_height: int) -> dict[int, str]:
    """Labels of the y axis by row, from the top, not crowded where fewer of them would do."""
    ticks = axis.log_ticks if chart.lens.log else axis.ticks
    rows_per_unit = (plot_height - 1) / y_range.span
    tries = (ticks(y_range, count) for count in range(max(2, (plot_height + 1) // 2), 1, -1))
    places = next((p for p in tries if len(p) < 3 or (p[1] - p[0]) * rows_per_unit > CLOSEST_LABELS), ())
    pitch = places[1] - places[0] if len(places) > 1 else y_range.span
    labels = {}
    for place in places:
        row = round((y_range.last - place) / y_range.span * (plot_height - 1))
        labels[row] = axis.figure(10**place) if chart.lens.log else axis.tick_label(place, pitch)
    return labels


def x_labels(chart: Chart, width: int, gutter: int) -> str:
    """The bottom row: the unit under the gutter, labels under their places, none over another."""
    plot, window = width - gutter, chart.window
    cells = [" "] * plot
    places = axis.ticks(window, max(3, plot // 9))
    if chart.lens.axis == "step":
        places = tuple(place for place in places if place == round(place))
    for place in places:
        label = x_label(chart, place)
        middle = round((place - window.first) / window.span * (plot - 1))
        start = max(0, min(plot - len(label), middle - len(label) // 2))
        if not "".join(cells[max(0, start - 1) : start + len(label) + 1]).strip():
            cells[start : start + len(label)] = label
    unit = chart.lens.axis if chart.lens.axis in ("step", "epoch") else ""
    note = f"{'log ' if chart.lens.log else ''}{unit}"[: gutter - 1]
    return f"{note:>{gutter - 1}} " + "".join(cells)[:plot]


def x_label(chart: Chart, x: float) -> str:
    """A place on the x axis in words."""
    if chart.lens.axis == "clock":
        return axis.clock_label(x)
    if chart.lens.axis == "since launch":
        return axis.span_label(x)
    finest = 1.0 if chart.lens.axis == "step" else 0.1
    return axis.tick_label(round(x, 6), max(finest, chart.window.span / 100))


def nan_marks(chart: Chart, y_range: Range, plot_width: int) -> list[Mark]:
    """One × at the bottom of each column of cells that holds a value that was not finite."""
    window, last = chart.window, max(1, plot_width - 1)
    columns = np.unique(np.rint((gaps(chart.raw, window) - window.first) / window.span * last))
    return [Mark(window.first + float(c) / last * window.span, y_range.first, "×", "bad") for c in columns]


def resume_marks(chart: Chart, y_range: Range) -> list[Mark]:
    """One » at the bottom where a resume went on."""
    return [Mark(x, y_range.first, "»", "axis") for x in chart.resumed]


def spread_of(values_N: Floats) -> float:
    """The distance between the lowest and the highest finite value."""
    ends = _ends(values_N)
    return ends[1] - ends[0] if ends else 0.0


def _ends(values: Floats) -> list[float]:
    known = values[np.isfinite(values)]
    return [float(known.min()), float(known.max())] if len(known) else []


def _bulk(values: Floats, percent: float) -> list[float]:
    known = np.sort(values[np.isfinite(values)])
    return [float(known[round(percent / 100 * (len(known) - 1))])] if len(known) else []


def _scaled(points: Points, log: bool) -> Points:
    return Points(points.x_N, log10(points.y_N)) if log else points
