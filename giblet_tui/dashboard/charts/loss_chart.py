"""A loss chart as rows of text: which range it spans, its lines from back to front, its labels. Pure.

The y axis is in decimal logarithms if the viewport asks for them; points are passed as they were recorded.
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
    """What one panel draws."""

    component: str
    viewport: Viewport
    whole: Range
    """The whole x axis."""
    raw: Points
    """Every step's loss."""
    smooth: Points
    held_out: Points
    """Validation loss of every epoch."""
    constant: float = 0.0
    """Loss of the best constant; 0 if it is unknown."""
    others: Sequence[Points] = ()
    """Curves of runs to compare with."""
    replaced: Sequence[Points] = ()
    """Steps as they were before a resume repeated them."""
    resumed: Sequence[float] = ()
    """Places on the x axis where resumes began."""
    empty: str = ""
    """Sentence to show while there is nothing to draw."""
    unit: str = "step"
    """What the axis of steps counts: a log may show epochs only."""

    @property
    def window(self) -> Range:
        """Return the visible part of the x axis."""
        return self.viewport.window(self.whole)

    @property
    def cursor(self) -> float | None:
        """Return the place of the crosshair on the x axis."""
        return None if self.viewport.cursor is None else self.whole.first + self.viewport.cursor * self.whole.span


def rows(chart: Chart, width: int, height: int) -> list[Row]:
    """Return `height` rows of `width` cells: labels of y, the plot, and a last row with labels of x.

    Nothing if that is too small to read.
    """
    plot_width, plot_height = width - GUTTER, height - 1
    if plot_width < SMALLEST_PLOT or plot_height < 1:
        return []
    if not len(chart.smooth.x_N) and not len(chart.held_out.x_N):
        sentence: list[Row] = [(Run(words, "axis"),) for words in textwrap.wrap(chart.empty, width)[:height]]
        return [*sentence, *[()] * (height - len(sentence))]
    y_range, labels = y_axis(chart, plot_width, plot_height)
    gutter = max([GUTTER, *(len(label) + 2 for label in labels.values())])
    marks = [*resume_marks(chart, y_range), *nan_marks(chart, y_range, width - gutter)]
    plot = braille.draw(layers(chart), chart.window, y_range, width - gutter, plot_height, marks, chart.cursor)
    gutters = [f"{labels.get(row, ''):>{gutter - 2}} {'┤' if row in labels else '│'}" for row in range(plot_height)]
    chart_rows = [(Run(gutter, "axis"), *cells) for gutter, cells in zip(gutters, plot, strict=True)]
    return [*chart_rows, (Run(x_labels(chart, width, gutter), "axis"),)]


def layers(chart: Chart) -> list[Layer]:
    """Return from back to front: best constant, every step, other runs, replaced steps, validation, smoothed curve."""
    name, log = chart.component, chart.viewport.log
    chart_layers = []
    if chart.constant > 0:
        ends = np.array([chart.window.first, chart.window.last])
        chart_layers.append(Layer(_scaled(Points(ends, np.full(2, chart.constant)), log), "rule", "dotted"))
    if chart.viewport.decay:
        chart_layers.append(Layer(_scaled(chart.raw, log), "faint"))
    chart_layers += [Layer(_scaled(other, log), "other", "dashdot") for other in chart.others]
    chart_layers += [Layer(_scaled(replaced_curve, log), f"{name} replaced") for replaced_curve in chart.replaced]
    chart_layers.append(Layer(_scaled(chart.held_out, log), f"{name} validation", "dashed"))
    return [*chart_layers, Layer(_scaled(chart.smooth, log), f"{name} train")]


def range_of(chart: Chart, plot_width: int, headroom: float = HEADROOM) -> Range:
    """Return what the curves span in the window, and the bulk of the noise; with the best constant if it is near."""
    curves = (chart.smooth, chart.held_out, *chart.others)
    spans = [reduced(points, chart.window, 2 * plot_width) for points in curves]
    noise = reduced(chart.raw, chart.window, 2 * plot_width)
    bounds = [value for span in spans for side in span for value in _ends(side)]
    bounds += [*_bulk(noise.low_C, NOISE_PERCENT), *_bulk(noise.high_C, 100 - NOISE_PERCENT)]
    if chart.viewport.log:
        bounds = [math.log10(b) for b in bounds if b > 0]
    if not bounds:
        return Range(0.0, 1.0)
    low, high = min(bounds), max(bounds)
    if chart.constant > 0:
        level = math.log10(chart.constant) if chart.viewport.log else chart.constant
        if abs(level - (low + high) / 2) <= (0.5 + NEAR_CONSTANT) * (high - low):
            low, high = min(low, level), max(high, level)
    margin = headroom * (high - low)
    if low == high:
        margin = max(abs(high) * 0.01, 1e-9)
    is_positive = low >= 0 and not chart.viewport.log
    return Range(max(0.0, low - margin) if is_positive else low - margin, high + margin)


def y_axis(chart: Chart, plot_width: int, plot_height: int) -> tuple[Range, dict[int, str]]:
    """Return the range of the y axis and its labels by row, from the top.

    A linear axis is widened a little so that round values fall on rows at even distances. Where it has no room for two
    of them, its ends are labelled.
    """
    even = None if chart.viewport.log else axis.even_axis(range_of(chart, plot_width, headroom=0.0), plot_height)
    if even is not None:
        return even.span, {even.row_of(place): axis.tick_label(place, even.pitch) for place in even.places}
    y_range = range_of(chart, plot_width)
    ticks = axis.log_ticks if chart.viewport.log else axis.ticks
    candidates = (ticks(y_range, count) for count in range(max(2, (plot_height + 1) // 2), 1, -1))
    rows_per_unit = (plot_height - 1) / y_range.span
    places = next((p for p in candidates if len(p) < 3 or (p[1] - p[0]) * rows_per_unit > CLOSEST_LABELS), ())
    pitch = places[1] - places[0] if len(places) > 1 else y_range.span
    labels = {}
    for place in places:
        row = round((y_range.last - place) * rows_per_unit)
        labels[row] = axis.figure(10**place) if chart.viewport.log else axis.tick_label(place, pitch)
    if len(labels) < 2 <= plot_height:
        ends = {0: y_range.last, plot_height - 1: y_range.first}
        labels = {row: axis.figure(10**end if chart.viewport.log else end, significant=3) for row, end in ends.items()}
    return y_range, labels


def x_labels(chart: Chart, width: int, gutter: int) -> str:
    """Return the bottom row: the unit under the gutter, labels under their places, none over another."""
    plot, window = width - gutter, chart.window
    cells = [" "] * plot
    places = axis.ticks(window, max(3, plot // 9))
    if chart.viewport.axis == "step":
        places = tuple(place for place in places if place == round(place))
    for place in places:
        label = x_label(chart, place)
        middle = round((place - window.first) / window.span * (plot - 1))
        start = max(0, min(plot - len(label), middle - len(label) // 2))
        if not "".join(cells[max(0, start - 1) : start + len(label) + 1]).strip():
            cells[start : start + len(label)] = label
    unit = unit_of(chart) if chart.viewport.axis in ("step", "epoch") else ""
    return f"{unit:>{gutter - 1}} " + "".join(cells)[:plot]


def unit_of(chart: Chart) -> str:
    """Return the name of the x axis."""
    return chart.unit if chart.viewport.axis == "step" else chart.viewport.axis


def x_label(chart: Chart, x: float) -> str:
    """Format a place on the x axis."""
    if chart.viewport.axis == "clock":
        return axis.clock_label(x)
    if chart.viewport.axis == "since launch":
        return axis.span_label(x)
    finest = 1.0 if chart.viewport.axis == "step" else 0.1
    return axis.tick_label(round(x, 6), max(finest, chart.window.span / 100))


def nan_marks(chart: Chart, y_range: Range, plot_width: int) -> list[Mark]:
    """Return one × at the bottom of each column of cells with a value that was not finite."""
    window, last = chart.window, max(1, plot_width - 1)
    columns = np.unique(np.rint((gaps(chart.raw, window) - window.first) / window.span * last))
    return [Mark(window.first + float(c) / last * window.span, y_range.first, "×", "bad") for c in columns]


def resume_marks(chart: Chart, y_range: Range) -> list[Mark]:
    """Return one » at the bottom of each place where a resume began."""
    return [Mark(x, y_range.first, "»", "axis") for x in chart.resumed]


def spread_of(values_N: Floats) -> float:
    """Return the distance between the lowest and the highest finite value."""
    ends = _ends(values_N)
    return ends[1] - ends[0] if ends else 0.0


def _ends(values: Floats) -> list[float]:
    finite = values[np.isfinite(values)]
    return [float(finite.min()), float(finite.max())] if len(finite) else []


def _bulk(values: Floats, percent: float) -> list[float]:
    finite = np.sort(values[np.isfinite(values)])
    return [float(finite[round(percent / 100 * (len(finite) - 1))])] if len(finite) else []


def _scaled(points: Points, log: bool) -> Points:
    return Points(points.x_N, log10(points.y_N)) if log else points
