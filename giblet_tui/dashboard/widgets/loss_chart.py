"""A loss panel: one component's training and validation loss, with its newest figures against the best constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from giblet_tui.dashboard.charts.viewport import Viewport, whole_axis, x_of
from giblet_tui.dashboard.model.run_view import RunView, constant_of, steps_per_epoch, without_steps
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.metric_columns import Curves, Floats, Points, Range, Replaced, Smoother, last_value, value_at
from giblet_tui.monitor.snapshots import RunSnapshot

SETTLED = 0.005
RULE = 2
SIDEWAYS = 0.1
WORTH_LOG, SAMPLE = 50.0, 200
NARROW = 26
LABEL = 10


class LossPanel(Pane):
    """Raw step losses faint, their smoothed course solid, validation dashed; the best constant as a dotted rule."""

    KEYS: ClassVar[tuple[str, ...]] = ("x crosshair", "+ - zoom", "L log y", "a axis", "[ ] smooth")

    lens: reactive[Viewport] = reactive(Viewport(), repaint=False)
    in_doubt = False
    """May the runs behind not be compared with this one's loss?"""

    class Zoomed(Message):
        """The wheel turned over the plot. factor: below 1 is closer; around: the place, from 0 to 1 of the window."""

        def __init__(self, factor: float, around: float) -> None:
            super().__init__()
            self.factor = factor
            self.around = around

    class Panned(Message):
        """The plot was dragged, or a wheel turned sideways. windows: how far, in widths of the window."""

        def __init__(self, windows: float) -> None:
            super().__init__()
            self.windows = windows

    class Pointed(Message):
        """The plot was clicked. around: the place, from 0 to 1 of the window."""

        def __init__(self, around: float) -> None:
            super().__init__()
            self.around = around

    def __init__(self, component: str) -> None:
        super().__init__(id=component)
        self.component = component
        self._smoothers: dict[tuple[str, float, int, bool], Smoother] = {}
        self._rows: list[Row] = []
        self._plain = Style()
        self._held: float | None = None
        self._dragged = False

    def title(self) -> Content:
        ink = self.line_colors[f"{self.component} train"]
        name: list[Part] = [(f"{styles.SAMPLES[self.component]} ", ink), (styles.LABELS[self.component], "bold")]
        if self.in_doubt:
            name.append((" ≠", "$error bold"))
        room = max(1, self.size.width - RULE)
        if self.view is None:
            return fit_parts(name, room)
        figures = self._newest(self.view) if self.lens.cursor is None else self._at_cursor(self.view)
        if join_parts(*name, *figures[:2]).cell_length > room:
            name = [(styles.LABELS[self.component], f"{ink} bold")]
        if self.lens.cursor is None and not self.lens.log and self._spans_decades(self.view):
            figures.append((" L for log", styles.MUTED))
        return fit_parts([*name, *figures], room)

    def _spans_decades(self, view: RunView) -> bool:
        """Would a log axis show what a plain one cannot? Told from a sample, for this is asked at every step."""
        courses = [
            self._smoothed(run, c, self._series(run, c).y_N) for run, c in ((view.run, view.curves), *view.others)
        ]
        sample = np.concatenate([y_N[:: 1 + len(y_N) // SAMPLE] for y_N in courses])
        known = sample[np.isfinite(sample)]
        return bool(len(known)) and 0 < float(known.min()) * WORTH_LOG < float(known.max())

    def watch_lens(self) -> None:
        self.update_content()

    def update_content(self) -> None:
        """Draw anew, and repaint only the rows that came out different."""
        self.update_title()
        width, height = self.content_size
        rows = self._drawn(self.view, width, height) if self.view is not None else []
        if len(rows) != len(self._rows):
            self.refresh()
        elif changed := [Region(0, y, width, 1) for y, row in enumerate(rows) if row != self._rows[y]]:
            self.refresh(*changed)
        self._rows = rows

    def _drawn(self, view: RunView, width: int, height: int) -> list[Row]:
        if not component_missing(view.run, self.component):
            return loss_chart.rows(self._chart(view), width, height)
        return [(Run("not in its records"[:width], "axis"),), *[()] * (height - 1)] if height > 0 else []

    def render_lines(self, crop: Region) -> list[Strip]:
        self._plain = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, plain = self.content_size.width, self._plain
        if y >= len(self._rows):
            return Strip.blank(width, plain)
        segments = [Segment(run.text, _inked(plain, self.line_colors.get(run.style))) for run in self._rows[y]]
        return Strip(segments).adjust_cell_length(width, plain)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Zoomed(0.8, self._around(event)))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Zoomed(1.25, self._around(event)))

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        event.stop()
        self.post_message(self.Panned(-SIDEWAYS))

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        event.stop()
        self.post_message(self.Panned(SIDEWAYS))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        self._held = self._around(event)
        self._dragged = False
        self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Dragging takes the course along."""
        if self._held is not None and (moved := self._around(event) - self._held):
            self._dragged = True
            self._held += moved
            self.post_message(self.Panned(-moved))

    def on_mouse_up(self) -> None:
        self._held = None
        self.release_mouse()

    def on_click(self, event: events.Click) -> None:
        if not self._dragged:
            self.post_message(self.Pointed(self._around(event)))

    def step_at(self, cursor: float) -> int | None:
        """The step at a part of the whole axis; None before the first record."""
        if self.view is None or not len(self.view.curves.step_N):
            return None
        curves, whole = self.view.curves, self._full_range(self.view)
        x_N = self._x(self.view.run, curves, curves.step_N, curves.at_N)
        place = int(np.searchsorted(x_N, whole.first + cursor * whole.span, side="right")) - 1
        return int(curves.step_N[max(0, place)])

    def part_of(self, step: int) -> float | None:
        """The part of the whole axis at which a step lies; None where there are no records."""
        if self.view is None or not len(self.view.curves.step_N):
            return None
        curves, whole = self.view.curves, self._full_range(self.view)
        x_N = self._x(self.view.run, curves, curves.step_N, curves.at_N)
        place = min(len(x_N) - 1, int(np.searchsorted(curves.step_N, step)))
        return (float(x_N[place]) - whole.first) / whole.span

    def _around(self, event: events.MouseEvent) -> float:
        plot = max(1, self.content_size.width - loss_chart.GUTTER - 1)
        return min(1.0, max(0.0, (event.x - loss_chart.GUTTER) / plot))

    def _chart(self, view: RunView) -> Chart:
        run, curves = view.run, view.curves
        epoch_x = self._x(run, curves, curves.epoch_step_E, curves.epoch_at_E)
        raw = self._series(run, curves)
        return Chart(
            component=self.component,
            lens=self.lens,
            whole=self._full_range(view),
            raw=raw,
            smooth=Points(raw.x_N, self._smoothed(run, curves, raw.y_N)),
            held_out=Points(epoch_x, curves.validation[self.component]),
            constant=constant_of(run, self.component),
            others=[self._overlay(other, columns) for other, columns in view.others],
            replaced=[self._replaced(run, curves, again) for again in curves.replaced],
            resumed=self._resumed(run, curves),
            empty=without_steps(run),
        )

    def _x(self, run: RunSnapshot, curves: Curves, step_N: Floats, at_N: Floats) -> Floats:
        return x_of(step_N, at_N, self.lens.axis, steps_per_epoch(run), curves.began_at)

    def _replaced(self, run: RunSnapshot, curves: Curves, again: Replaced) -> Points:
        values_N = again.loss[self.component]
        smooth_N = Smoother(self.lens.decay).smoothed(values_N) if self.lens.decay else values_N
        return Points(self._x(run, curves, again.step_N, again.at_N), smooth_N)

    def _resumed(self, run: RunSnapshot, curves: Curves) -> Sequence[float]:
        """Where on the axis each resume's first step lies; none that the records no longer hold."""
        places = [int(np.searchsorted(curves.step_N, step)) for step in curves.resumed]
        x_N = self._x(run, curves, curves.step_N, curves.at_N)
        return [float(x_N[place]) for place in places if place < len(x_N)]

    def _series(self, run: RunSnapshot, curves: Curves) -> Points:
        """Every step's loss, or every epoch's where no step was recorded."""
        by_step = bool(len(curves.step_N))
        step_N, at_N = (curves.step_N, curves.at_N) if by_step else (curves.epoch_step_E, curves.epoch_at_E)
        values = curves.loss if by_step else curves.train
        return Points(self._x(run, curves, step_N, at_N), values[self.component])

    def _full_range(self, view: RunView) -> Range:
        """The axis of the run, and of those behind it too, but for the clock: they may be of another day."""
        behind = () if self.lens.axis == "clock" else view.others
        spans = [self._run_range(run, curves) for run, curves in ((view.run, view.curves), *behind)]
        return Range(min(span.first for span in spans), max(span.last for span in spans))

    def _run_range(self, run: RunSnapshot, curves: Curves) -> Range:
        return whole_axis(curves, self.lens.axis, steps_per_epoch(run), curves.began_at)

    def _overlay(self, run: RunSnapshot, curves: Curves) -> Points:
        course = self._series(run, curves)
        return Points(course.x_N, self._smoothed(run, curves, course.y_N))

    def _smoothed(self, run: RunSnapshot, curves: Curves, values_N: Floats) -> Floats:
        decay = self.lens.decay
        if not decay:
            return values_N
        self._smoothers = {key: s for key, s in self._smoothers.items() if key[1] == decay}
        key = (run.run.run_id, decay, curves.origin, bool(len(curves.step_N)))
        return self._smoothers.setdefault(key, Smoother(decay)).smoothed(values_N)

    def _newest(self, view: RunView) -> list[Part]:
        """The newest figures, with digits enough to tell them from the run's other values; train/val where narrow.

        Validation is red where it is worse than the best constant.
        """
        if component_missing(view.run, self.component):
            return []
        course = self._series(view.run, view.curves)
        smooth_N = self._smoothed(view.run, view.curves, course.y_N)
        if not len(smooth_N):
            return []
        value, held_out_E = last_value(smooth_N), view.curves.validation[self.component]
        if not math.isfinite(value):
            since = _first_bad(view.curves.step_N, smooth_N)
            return [(" ✖ NaN", "$error bold"), (f" from step {since:,}", "$error")]
        constant, held_out = constant_of(view.run, self.component), last_value(held_out_E)
        worse = "$error" if 0 < constant < held_out else ""
        if self.size.width < NARROW and math.isfinite(held_out):
            short = axis.pair(value, held_out, self.size.width - RULE - LABEL)
            return [(f" {short[0]}", "bold"), (f"/{short[1]}", worse)]
        spread = loss_chart.spread_of(smooth_N)
        parts: list[Part] = [(f" {axis.figure(value, spread)}", "bold")]
        if not len(held_out_E):
            parts.append((" val after epoch 1", styles.MUTED))
        elif math.isfinite(held_out):
            parts.append((f" val {axis.figure(held_out, spread)}", worse))
        if constant:
            change = value / constant - 1
            digits = 1 if abs(change) < 0.1 else 0
            parts.append((f" {change:+.{digits}%}", "$success" if change < -SETTLED else "$warning"))
        return parts

    def _at_cursor(self, view: RunView) -> list[Part]:
        """What stands under the crosshair, values first: where it is, is the same in every panel."""
        drawn = self._chart(view)
        x, spread = drawn.cursor or 0.0, loss_chart.spread_of(drawn.smooth.y_N)
        place: Part = (f" {self.lens.axis} {loss_chart.x_label(drawn, x)}", styles.MUTED)
        if x > self._run_range(view.run, view.curves).last:
            return [place, (" not there yet" if view.run.health.live else " ended before", styles.MUTED)]
        smooth, raw, held_out = (value_at(points, x) for points in (drawn.smooth, drawn.raw, drawn.held_out))
        if self.size.width < NARROW and math.isfinite(held_out):
            short = axis.pair(smooth, held_out, self.size.width - RULE - LABEL)
            return [(f" {short[0]}", "bold"), f"/{short[1]}"]
        return [
            (f" {axis.figure(smooth, spread)}", "bold"),
            f" val {axis.figure(held_out, spread)}",
            (f" raw {axis.figure(raw, spread)}", styles.MUTED),
            place,
        ]


@lru_cache(maxsize=256)
def _inked(plain: Style, ink: str | None) -> Style:
    return plain if ink is None else plain + Style(color=ink)


def component_missing(run: RunSnapshot, component: str) -> bool:
    """Are there epochs, and none tells this component? So it is with a lab's log: it has totals alone."""
    epochs = () if run.steps else run.epochs
    return component != "total" and bool(epochs) and not any(component in epoch.train.loss for epoch in epochs)


def _first_bad(step_N: Floats, values_N: Floats) -> int:
    """The step from which on nothing is finite."""
    known = np.flatnonzero(np.isfinite(values_N))
    first = int(known[-1]) + 1 if len(known) else 0
    return int(step_N[min(first, len(step_N) - 1)]) if len(step_N) else 0
