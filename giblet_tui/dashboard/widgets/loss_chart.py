"""A loss panel: training and validation loss of one component, with its newest figures against the best constant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from giblet_tui.dashboard.charts import axis, loss_chart
from giblet_tui.dashboard.charts.braille import Row, Run
from giblet_tui.dashboard.charts.loss_chart import Chart
from giblet_tui.dashboard.charts.viewport import DEFAULT_DECAY, Viewport, whole_axis, x_of
from giblet_tui.dashboard.model.run_status import constant_of, no_steps_sentence, record_unit, steps_per_epoch
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts
from giblet_tui.dashboard.widgets.loss_figures import newest_figures, short_pair
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.metric_columns import Curves, Floats, Points, Range, Replaced, Smoother, value_at
from giblet_tui.monitor.snapshots import RunSnapshot

RULE = 2
SIDEWAYS = 0.1
SMOOTHED_FROM = 100
"""Epochs from which a curve of epochs is smoothed: an average of few would only lag behind them."""
WORTH_LOG, SAMPLE = 50.0, 200
UNSAFE_ID = re.compile(r"[^A-Za-z0-9_-]")


class LossPanel(Pane):
    """Raw step losses faint, their smoothed curve solid, validation dashed; the best constant as a dotted rule."""

    KEYS: ClassVar[tuple[str, ...]] = ("x crosshair", "+ - zoom", "L log y", "a axis", "[ ] smooth", "z alone")

    viewport: reactive[Viewport] = reactive(Viewport(), repaint=False)
    in_doubt = False
    """Whether the runs drawn behind have another loss, which cannot be compared with this one."""

    class Zoomed(Message):
        """The wheel turned over the plot."""

        def __init__(self, factor: float, around: float) -> None:
            super().__init__()
            self.factor = factor
            """Below 1 is closer."""
            self.around = around
            """The place that stays, from 0 to 1 of the window."""

    class Panned(Message):
        """The plot was dragged, or a wheel turned sideways."""

        def __init__(self, windows: float) -> None:
            super().__init__()
            self.windows = windows
            """How far, in widths of the window."""

    class Pointed(Message):
        """The plot was clicked."""

        def __init__(self, around: float) -> None:
            super().__init__()
            self.around = around
            """The place, from 0 to 1 of the window."""

    def __init__(self, component: str, viewport: Viewport | None = None) -> None:
        super().__init__(id=self.widget_id(component))
        self.component = component
        self._smoothers: dict[tuple[str, float, int, bool], Smoother] = {}
        self._rows: list[Row] = []
        self._plain = Style()
        self._grabbed: float | None = None
        self._dragged = False
        if viewport is not None:
            self.set_reactive(LossPanel.viewport, viewport)

    @classmethod
    def widget_id(cls, component: str) -> str:
        """Return the id of the panel of a component."""
        return UNSAFE_ID.sub("_", component)

    @property
    def line_names(self) -> tuple[str, ...]:
        """Return the names whose order decides about colours and dashes."""
        return self.view.components if self.view is not None else ()

    def name_parts(self) -> list[Part]:
        """Return the name of the curve, as the heading has it."""
        return [(styles.label(self.component), "bold")]

    def title(self) -> Content:
        ink = self.line_colors.get(f"{self.component} train", "")
        heading: list[Part] = [(f"{styles.sample(self.component, self.line_names)} ", ink), *self.name_parts()]
        doubt: list[Part] = [(" ≠", "$error bold")] if self.in_doubt else []
        room = max(1, self.size.width - RULE)
        if self.view is None:
            return fit_parts([*heading, *doubt], room)
        rest = room - join_parts(*heading, *doubt).cell_length
        figures = self._figures(self.view, rest) if self.viewport.cursor is None else self._at_cursor(self.view, rest)
        return fit_parts([*heading, *doubt, *figures, *self._notes(self.view)], room)

    def watch_viewport(self) -> None:
        self.update_content()

    def update_content(self) -> None:
        """Draw again, and repaint only the rows that came out different."""
        if not self.display:
            return
        self.update_title()
        width, height = self.content_size
        rows = self._draw(self.view, width, height) if self.view is not None else []
        if len(rows) != len(self._rows):
            self.refresh()
        elif regions := [Region(0, y, width, 1) for y, row in enumerate(rows) if row != self._rows[y]]:
            self.refresh(*regions)
        self._rows = rows

    def render_lines(self, crop: Region) -> list[Strip]:
        self._plain = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, plain = self.content_size.width, self._plain
        if y >= len(self._rows):
            return Strip.blank(width, plain)
        colors = self.line_colors
        segments = [Segment(run.text, _colored(plain, colors.get(run.style))) for run in self._rows[y]]
        return Strip(segments).adjust_cell_length(width, plain)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Zoomed(0.8, self._place_of(event)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Zoomed(1.25, self._place_of(event)))

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        event.stop()
        self.post_message(self.Panned(-SIDEWAYS))

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        event.stop()
        self.post_message(self.Panned(SIDEWAYS))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._grabbed = self._place_of(event)
        self._dragged = False
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Move the window with the pointer while a button is pressed."""
        if self._grabbed is not None and (distance := self._place_of(event) - self._grabbed):
            self._dragged = True
            self._grabbed += distance
            self.post_message(self.Panned(-distance))

    def on_mouse_up(self) -> None:
        self._grabbed = None
        self.release_mouse()

    def on_click(self, event: events.Click) -> None:
        if not self._dragged:
            self.post_message(self.Pointed(self._place_of(event)))

    def step_at(self, cursor: float) -> int | None:
        """Return the step at a fraction of the whole axis; None before the first record."""
        if self.view is None or not len(self.view.curves.step_N):
            return None
        curves, whole = self.view.curves, self._full_range(self.view)
        x_N = self._x(self.view.run, curves, curves.step_N, curves.at_N)
        place = int(np.searchsorted(x_N, whole.first + cursor * whole.span, side="right")) - 1
        return int(curves.step_N[max(0, place)])

    def axis_fraction_of(self, step: int) -> float | None:
        """Return the fraction of the whole axis at which a step is; None without records."""
        if self.view is None or not len(self.view.curves.step_N):
            return None
        curves, whole = self.view.curves, self._full_range(self.view)
        x_N = self._x(self.view.run, curves, curves.step_N, curves.at_N)
        place = min(len(x_N) - 1, int(np.searchsorted(curves.step_N, step)))
        return (float(x_N[place]) - whole.first) / whole.span

    def chart(self, view: RunView) -> Chart:
        """Return what the panel draws of a view."""
        run, curves = view.run, view.curves
        raw = self._series(run, curves)
        return Chart(
            component=self.component,
            viewport=self.viewport,
            whole=self._full_range(view),
            raw=raw,
            smooth=Points(raw.x_N, self._smoothed(run, curves, raw.y_N)),
            held_out=self._held_out(run, curves),
            constant=self._constant(run),
            others=[self._overlay(other, columns) for other, columns in view.others],
            replaced=[self._replaced(run, curves, replaced_curve) for replaced_curve in curves.replaced],
            resumed=self._resumed(run, curves),
            empty=no_steps_sentence(run),
            unit=self._unit(run),
        )

    def _draw(self, view: RunView, width: int, height: int) -> list[Row]:
        if not self._is_missing(view):
            return loss_chart.rows(self.chart(view), width, height)
        return [(Run("not in its records"[:width], "axis"),), *[()] * (height - 1)] if height > 0 else []

    def _is_missing(self, view: RunView) -> bool:
        return component_missing(view.run, self.component)

    def _place_of(self, event: events.MouseEvent) -> float:
        plot = max(1, self.content_size.width - loss_chart.GUTTER - 1)
        return min(1.0, max(0.0, (event.x - loss_chart.GUTTER) / plot))

    def _x(self, run: RunSnapshot, curves: Curves, step_N: Floats, at_N: Floats) -> Floats:
        return x_of(step_N, at_N, self.viewport.axis, steps_per_epoch(run), curves.began_at)

    def _replaced(self, run: RunSnapshot, curves: Curves, replaced_curve: Replaced) -> Points:
        values_N = column_of(replaced_curve.loss, self.component, replaced_curve.step_N)
        smooth_N = Smoother(self.viewport.decay).smoothed(values_N) if self.viewport.decay else values_N
        return Points(self._x(run, curves, replaced_curve.step_N, replaced_curve.at_N), smooth_N)

    def _resumed(self, run: RunSnapshot, curves: Curves) -> Sequence[float]:
        """Return where on the axis each resume's first step is; resumes without records are left out."""
        places = [int(np.searchsorted(curves.step_N, step)) for step in curves.resumed]
        x_N = self._x(run, curves, curves.step_N, curves.at_N)
        return [float(x_N[place]) for place in places if place < len(x_N)]

    def _series(self, run: RunSnapshot, curves: Curves) -> Points:
        """Return every step's loss, or every epoch's if no step was recorded."""
        by_step = bool(len(curves.step_N))
        step_N, at_N = (curves.step_N, curves.at_N) if by_step else (curves.epoch_step_E, curves.epoch_at_E)
        values = curves.loss if by_step else curves.train
        return Points(self._x(run, curves, step_N, at_N), column_of(values, self.component, step_N))

    def _held_out(self, run: RunSnapshot, curves: Curves) -> Points:
        epoch_x = self._x(run, curves, curves.epoch_step_E, curves.epoch_at_E)
        return Points(epoch_x, column_of(curves.validation, self.component, epoch_x))

    def _unit(self, run: RunSnapshot) -> str:
        return record_unit(run)

    def _constant(self, run: RunSnapshot) -> float:
        return constant_of(run, self.component)

    def _full_range(self, view: RunView) -> Range:
        """Return the axis of the run and of those behind it, except for the clock: they may be of another day."""
        behind = () if self.viewport.axis == "clock" else view.others
        spans = [self._run_range(run, curves) for run, curves in ((view.run, view.curves), *behind)]
        return Range(min(span.first for span in spans), max(span.last for span in spans))

    def _run_range(self, run: RunSnapshot, curves: Curves) -> Range:
        return whole_axis(curves, self.viewport.axis, steps_per_epoch(run), curves.began_at)

    def _overlay(self, run: RunSnapshot, curves: Curves) -> Points:
        series = self._series(run, curves)
        return Points(series.x_N, self._smoothed(run, curves, series.y_N))

    def _smoothed(self, run: RunSnapshot, curves: Curves, values_N: Floats) -> Floats:
        decay = self.viewport.decay
        if not decay or (len(values_N) < SMOOTHED_FROM and not len(curves.step_N)):
            return values_N
        self._smoothers = {key: s for key, s in self._smoothers.items() if key[1] == decay}
        key = (run.run.run_id, decay, curves.origin, bool(len(curves.step_N)))
        return self._smoothers.setdefault(key, Smoother(decay)).smoothed(values_N)

    def _figures(self, view: RunView, room: int) -> list[Part]:
        if self._is_missing(view):
            return []
        series = self._series(view.run, view.curves)
        return newest_figures(view, self.component, room, series.y_N, self._smoothed(view.run, view.curves, series.y_N))

    def _notes(self, view: RunView) -> list[Part]:
        """Return how the chart is drawn, where that is unusual."""
        notes: list[Part] = []
        if self.viewport.log:
            notes.append(("  log y", styles.MUTED))
        elif self.viewport.cursor is None and self._spans_decades(view):
            notes.append(("  L for log", styles.MUTED))
        if self.viewport.decay != DEFAULT_DECAY:
            notes.append((f"  smoothing {self.viewport.decay:g}", styles.MUTED))
        return notes

    def _spans_decades(self, view: RunView) -> bool:
        """Return True if a log axis would show what a linear one cannot; judged from a sample, at every step."""
        curves = [
            self._smoothed(run, c, self._series(run, c).y_N) for run, c in ((view.run, view.curves), *view.others)
        ]
        sample = np.concatenate([y_N[:: 1 + len(y_N) // SAMPLE] for y_N in curves])
        finite = sample[np.isfinite(sample)]
        return bool(len(finite)) and 0 < float(finite.min()) * WORTH_LOG < float(finite.max())

    def _at_cursor(self, view: RunView, room: int) -> list[Part]:
        """Return the values under the crosshair in the longest form that fits in `room` cells; then the place."""
        chart = self.chart(view)
        x, spread = chart.cursor or 0.0, loss_chart.spread_of(chart.smooth.y_N)
        last = float(chart.smooth.x_N[-1]) if len(chart.smooth.x_N) else x
        label = loss_chart.x_label(chart, min(x, last) if self.viewport.axis == "step" else x)
        unit = loss_chart.unit_of(chart)
        place: Part = (f"  at {unit} {label}", styles.MUTED)
        if x > self._run_range(view.run, view.curves).last:
            place = (f" {unit} {loss_chart.x_label(chart, x)}", styles.MUTED)
            return [place, (" not there yet" if view.run.health.live else " ended before", styles.MUTED)]
        smooth, raw, held_out = (value_at(points, x) for points in (chart.smooth, chart.raw, chart.held_out))
        values: list[Part] = [(f" {axis.figure(smooth, spread)}", "bold"), f"  val {axis.figure(held_out, spread)}"]
        this_step: Part = (f"  unsmoothed {axis.figure(raw, spread)}", styles.MUTED)
        short = short_pair(smooth, held_out, self.size.width - RULE)
        second = place if self.component == "total" else this_step
        forms = [[(" smoothed", styles.MUTED), *values, this_step, place], [*values, second], values, short]
        return next((form for form in forms if join_parts(*form).cell_length <= room), short)


def column_of(columns: Mapping[str, Floats], component: str, like_N: Floats) -> Floats:
    """Return the column of a component; all gaps if the records do not have it."""
    column = columns.get(component)
    return column if column is not None else np.full(len(like_N), np.nan)


def component_missing(run: RunSnapshot, component: str) -> bool:
    """Return True if epochs are recorded, but none with this component: a lab's log has totals alone."""
    epochs = () if run.steps else run.epochs
    return component != "total" and bool(epochs) and not any(component in epoch.train.loss for epoch in epochs)


@lru_cache(maxsize=256)
def _colored(plain: Style, color: str | None) -> Style:
    return plain if color is None else plain + Style(color=color)
