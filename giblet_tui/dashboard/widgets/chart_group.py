"""Charts side by side that look through one lens: its keys, and the mouse over any of them."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.reactive import reactive

from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.dashboard.widgets.loss_chart import LossPanel

PAN, STEP = 0.2, 0.02


class Charts(Container):
    """Holds loss panels, among others."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "shift(-1)", "earlier, or crosshair left"),
        Binding("right,l", "shift(1)", "later, or crosshair right"),
        Binding("plus,equals_sign", "zoom(0.5)", "zoom in"),
        Binding("minus", "zoom(2.0)", "zoom out"),
        Binding("0", "whole", "whole run"),
        Binding("x", "cross", "crosshair"),
        Binding("a", "axis", "x axis: step, epoch, time"),
        Binding("L", "log_axis", "log y axis"),
        Binding("right_square_bracket", "smooth(1)", "smooth more"),
        Binding("left_square_bracket", "smooth(-1)", "smooth less"),
    ]

    lens: reactive[Viewport] = reactive(Viewport(), repaint=False)

    def reset_view(self) -> None:
        """Look at all of another run, with scale and smoothing as they are."""
        self.lens = replace(self.lens, share=1.0, end=None, cursor=None)

    class Crossed(Message):
        """The crosshair stands at a step, or nowhere any more (None)."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def watch_lens(self, old: Viewport, new: Viewport) -> None:
        for panel in self.query(LossPanel):
            panel.lens = new
        if new.cursor != old.cursor:
            first = self.query(LossPanel).first()
            self.post_message(self.Crossed(None if new.cursor is None else first.step_at(new.cursor)))

    def set_cursor(self, step: int) -> None:
        """Set the crosshair at a step, where the charts have records."""
        part = self.query(LossPanel).first().part_of(step)
        if part is not None:
            self.lens = self.lens.center_on(part)

    def on_loss_panel_zoomed(self, message: LossPanel.Zoomed) -> None:
        self.lens = self.lens.zoomed(message.factor, self.lens.to_axis_fraction(message.around))

    def on_loss_panel_panned(self, message: LossPanel.Panned) -> None:
        self.lens = self.lens.panned(message.windows)

    def on_loss_panel_pointed(self, message: LossPanel.Pointed) -> None:
        self.lens = self.lens.with_cursor_at(message.around)

    def action_shift(self, by: int) -> None:
        self.lens = self.lens.move_cursor(by * STEP) if self.lens.cursor is not None else self.lens.panned(by * PAN)

    def action_zoom(self, factor: float) -> None:
        self.lens = self.lens.zoomed(factor)

    def action_whole(self) -> None:
        self.lens = self.lens.show_all()

    def action_cross(self) -> None:
        self.lens = self.lens.toggle_cursor()

    def action_axis(self) -> None:
        self.lens = self.lens.other_axis()

    def action_log_axis(self) -> None:
        self.lens = replace(self.lens, log=not self.lens.log)

    def action_smooth(self, by: int) -> None:
        self.lens = self.lens.smoother(by)
        self.notify(f"smoothing {self.lens.decay:g}" if self.lens.decay else "no smoothing", timeout=2)
