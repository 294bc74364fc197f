"""A panel for a number that is no loss, such as an accuracy that a command prints: its curve, newest and best value."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping

import numpy as np

from giblet_train.diagnosis.log_reader.metric_names import rises
from giblet_tui.dashboard.charts import axis, loss_chart
from giblet_tui.dashboard.charts.viewport import x_of
from giblet_tui.dashboard.model.run_status import record_unit, steps_per_epoch
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.loss_figures import SHORT_LABEL, short_pair
from giblet_tui.monitor.metric_columns import Curves, Floats, Points, Range, Series, ValueCurves, last_value
from giblet_tui.monitor.snapshots import RunSnapshot

ARROWS = {True: " ↑", False: " ↓", None: ""}
"""What follows the name of a metric: where the better values are, if its name says so."""
NOTHING = Series(np.empty(0), np.empty(0), np.empty(0))


class MetricPanel(LossPanel):
    """Training solid, validation dashed; without a best constant, and without smoothing, for its points are few."""

    @classmethod
    def widget_id(cls, component: str) -> str:
        """Return an id for any name: programs print names such as `top@1`."""
        return f"metric-{zlib.crc32(component.encode()):08x}"

    @property
    def line_names(self) -> tuple[str, ...]:
        return (*self.view.components, *self.view.metrics) if self.view is not None else ()

    @property
    def line_colors(self) -> Mapping[str, str]:
        return styles.line_colors(self.line_names, self._palette)

    def name_parts(self) -> list[Part]:
        return [(self.component, "bold"), (ARROWS[rises(self.component)], styles.MUTED)]

    def _curves(self, curves: Curves) -> ValueCurves:
        return curves.values.get(self.component, ValueCurves(NOTHING, NOTHING))

    def _points(self, run: RunSnapshot, curves: Curves, series: Series) -> Points:
        place_N = x_of(series.step_N, series.at_N, self.viewport.axis, steps_per_epoch(run), curves.began_at)
        return Points(place_N, series.value_N)

    def _series(self, run: RunSnapshot, curves: Curves) -> Points:
        return self._points(run, curves, self._curves(curves).train)

    def _held_out(self, run: RunSnapshot, curves: Curves) -> Points:
        return self._points(run, curves, self._curves(curves).validation)

    def _unit(self, run: RunSnapshot) -> str:
        return "step" if record_unit(run) == "block" else record_unit(run)

    def _constant(self, run: RunSnapshot) -> float:
        return 0.0

    def _smoothed(self, run: RunSnapshot, curves: Curves, values_N: Floats) -> Floats:
        return values_N

    def _run_range(self, run: RunSnapshot, curves: Curves) -> Range:
        """Return the axis of the losses if it holds all points, else one that does: its steps may be counted apart."""
        losses = super()._run_range(run, curves)
        ends = [float(points.x_N[-1]) for points in self._both(run, curves) if len(points.x_N)]
        return Range(losses.first, max([losses.last, *ends])) if ends else losses

    def _both(self, run: RunSnapshot, curves: Curves) -> tuple[Points, Points]:
        return self._series(run, curves), self._held_out(run, curves)

    def _is_missing(self, view: RunView) -> bool:
        return self.component not in view.curves.values

    def _spans_decades(self, view: RunView) -> bool:
        train, held_out = self._both(view.run, view.curves)
        return bool(len(train.y_N) or len(held_out.y_N)) and super()._spans_decades(view)

    def _figures(self, view: RunView, room: int) -> list[Part]:
        """Return the newest and the best values in the longest form that fits in `room` cells."""
        train, held_out = self._curves(view.curves)
        spread = max(loss_chart.spread_of(train.value_N), loss_chart.spread_of(held_out.value_N))
        newest = [_figure(series, spread) for series in (train, held_out)]
        labels = [(" train", styles.MUTED), ("  val" if newest[0] else " val", styles.MUTED)]
        if not newest[1]:
            labels = []
        figures = [part for i, part in enumerate(newest) if part for part in (*labels[i : i + 1], part)]
        best = best_words(self.component, train, held_out, spread, self._unit(view.run))
        short = short_pair(last_value(train.value_N), last_value(held_out.value_N), room + SHORT_LABEL)
        forms: list[list[Part]] = [[*figures, (best, styles.MUTED)], figures]
        if newest[0] and newest[1]:
            forms.append(short)
        return next((form for form in forms if join_parts(*form).cell_length <= room), [])


def _figure(series: Series, spread: float) -> Part | None:
    value = last_value(series.value_N)
    if not len(series.value_N):
        return None
    return (f" {axis.figure(value, spread)}", "bold") if math.isfinite(value) else (" NaN", "$error bold")


def best_words(name: str, train: Series, held_out: Series, spread: float, unit: str) -> str:
    """Return `  best 0.93 at epoch 12`, of the validation if known; empty if the name does not say what is better."""
    series, rising = held_out if len(held_out.value_N) else train, rises(name)
    if rising is None or not np.isfinite(series.value_N).any():
        return ""
    place = int(np.nanargmax(series.value_N) if rising else np.nanargmin(series.value_N))
    return f"  best {axis.figure(float(series.value_N[place]), spread)} at {unit} {series.step_N[place]:,.0f}"
