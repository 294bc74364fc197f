"""The charts side by side: panels for the total, the components and other numbers of a run, all with one viewport."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_status import has_curves
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.metric_panel import MetricPanel

PAN, STEP = 0.2, 0.02
PANEL_CELLS, PANEL_ROWS = 25, 6
"""The least size of a panel; where not all have it, only the total is shown."""
TALLER = (9, 14, 18)
"""Rows at which the charts together show more than before."""
PROPORTIONS = 4.5
"""Cells per row of a panel that is easy to read."""
GUTTER = 1
TOTAL = "total"
DEFAULT_COMPONENTS = ("fmri", "video", "audio", "text")
"""Panels to show before the first run is known."""

CHART_BINDINGS: list[BindingType] = [
    Binding("left,h", "shift(-1)", "earlier, or crosshair left", id="earlier"),
    Binding("right,l", "shift(1)", "later, or crosshair right", id="later"),
    Binding("plus,equals_sign", "zoom(0.5)", "zoom in", id="zoom_in"),
    Binding("minus", "zoom(2.0)", "zoom out", id="zoom_out"),
    Binding("0", "whole", "whole run", id="whole_run"),
    Binding("x", "cross", "crosshair", id="crosshair"),
    Binding("a", "axis", "x axis: step, epoch, time", id="x_axis"),
    Binding("L", "log_axis", "log y axis", id="log_axis"),
    Binding("right_square_bracket", "smooth(1)", "smooth more", id="smooth_more"),
    Binding("left_square_bracket", "smooth(-1)", "smooth less", id="smooth_less"),
]


class ChartKeys:
    """Actions of `CHART_BINDINGS` for a widget that holds the charts, or is the charts."""

    @property
    def charts(self) -> Charts:
        """Return the charts that the keys act on."""
        raise NotImplementedError

    def action_shift(self, by: int) -> None:
        viewport = self.charts.viewport
        self.charts.viewport = (
            viewport.move_cursor(by * STEP) if viewport.cursor is not None else viewport.panned(by * PAN)
        )

    def action_zoom(self, factor: float) -> None:
        self.charts.viewport = self.charts.viewport.zoomed(factor)

    def action_whole(self) -> None:
        self.charts.viewport = self.charts.viewport.show_all()

    def action_cross(self) -> None:
        self.charts.viewport = self.charts.viewport.toggle_cursor()

    def action_axis(self) -> None:
        self.charts.viewport = self.charts.viewport.other_axis()

    def action_log_axis(self) -> None:
        self.charts.viewport = replace(self.charts.viewport, log=not self.charts.viewport.log)

    def action_smooth(self, by: int) -> None:
        self.charts.viewport = self.charts.viewport.smoother(by)


class PanelLayout(Layout):
    """Puts the panels in rows of similar length."""

    name = "panels"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        only = parent.only if isinstance(parent, Charts) else ""
        panels = [child for child in children if isinstance(child, LossPanel) and child.component == only] or children
        regions = panel_regions(len(panels), size, fewer=isinstance(parent, Charts) and parent.has_metrics)
        return [
            WidgetPlacement(region, NULL_OFFSET, NULL_SPACING, child)
            for child, region in zip(panels, regions, strict=False)
        ]


class Charts(ChartKeys, Container):
    """Holds the panels of a run: its losses, or the curves that were chosen for runs of its name."""

    BINDINGS: ClassVar[list[BindingType]] = CHART_BINDINGS

    viewport: reactive[Viewport] = reactive(Viewport(), repaint=False)
    only: reactive[str] = reactive("", repaint=False)
    """The panel that is shown alone; empty for all of them."""
    view: reactive[RunView | None] = reactive(None, repaint=False)

    class Crossed(Message):
        """The crosshair moved to a step, or was switched off (None)."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, components: Sequence[str] = DEFAULT_COMPONENTS, id: str | None = None) -> None:
        super().__init__(id=id)
        self._names = (TOTAL, *components)
        self._choices: dict[str, tuple[str, ...]] = {}
        self._layout = PanelLayout()

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def charts(self) -> Charts:
        return self

    @property
    def panels(self) -> list[LossPanel]:
        """Return all panels, the total first."""
        return list(self.query(LossPanel))

    def compose(self) -> ComposeResult:
        for name in self._names:
            yield LossPanel(name)

    def size_hint(self, width: int) -> SizeHint:
        """Ask for a few rows, and for little while the run has nothing to draw."""
        if self.view is not None and not has_curves(self.view.run):
            return SizeHint(PANEL_CELLS, (2, 3))
        return SizeHint(PANEL_CELLS, (PANEL_ROWS, *TALLER))

    def reset_view(self) -> None:
        """Show all of another run, with scale and smoothing as they are."""
        self.viewport = replace(self.viewport, share=1.0, end=None, cursor=None)

    def set_cursor(self, step: int) -> None:
        """Set the crosshair at a step, if the charts have records of it."""
        place = self.panels[0].axis_fraction_of(step)
        if place is not None:
            self.viewport = self.viewport.center_on(place)

    def watch_view(self, view: RunView | None) -> None:
        names = self.shown_curves
        if view is not None and names != self._names:
            self._replace_panels(names, view)
        for panel in self.panels:
            panel.view = view

    def watch_viewport(self, old: Viewport, new: Viewport) -> None:
        for panel in self.panels:
            panel.viewport = new
        if new.cursor != old.cursor:
            self.post_message(self.Crossed(None if new.cursor is None else self.panels[0].step_at(new.cursor)))

    def watch_only(self) -> None:
        self._show_panels()

    def on_resize(self) -> None:
        self._show_panels()

    def on_loss_panel_zoomed(self, message: LossPanel.Zoomed) -> None:
        self.viewport = self.viewport.zoomed(message.factor, self.viewport.to_axis_fraction(message.around))

    def on_loss_panel_panned(self, message: LossPanel.Panned) -> None:
        self.viewport = self.viewport.panned(message.windows)

    def on_loss_panel_pointed(self, message: LossPanel.Pointed) -> None:
        self.viewport = self.viewport.with_cursor_at(message.around)

    @property
    def has_metrics(self) -> bool:
        """Return True if panels of other numbers than losses are shown."""
        return any(isinstance(panel, MetricPanel) for panel in self.panels)

    @property
    def shown_curves(self) -> tuple[str, ...]:
        """Return the names of the panels for this run: those that were chosen, as far as it has them, or the usual."""
        if self.view is None:
            return self._names
        choice = self._choices.get(self.view.run.run.name, ())
        return tuple(name for name in self.view.curve_names if name in choice) or self.view.usual_curves

    def choose(self, names: Sequence[str]) -> None:
        """Show these curves of all runs of this name; the usual ones if there are none."""
        if self.view is None:
            return
        self._choices[self.view.run.run.name] = tuple(names)
        self.only = ""
        self.watch_view(self.view)

    def _replace_panels(self, names: tuple[str, ...], view: RunView) -> None:
        """Show the panels of other curves, in their order; those that both have stay."""
        order = {name: place for place, name in enumerate(names)}
        self._names = names
        kinds = {name: MetricPanel if name in view.metrics else LossPanel for name in names}
        for panel in self.panels:
            if type(panel) is not kinds.get(panel.component):
                panel.remove()
        present = {panel.component for panel in self.panels if type(panel) is kinds.get(panel.component)}
        new_panels = [kinds[name](name, viewport=self.viewport) for name in names if name not in present]
        if new_panels:
            self.mount(*new_panels)
        self.sort_children(key=lambda child: order.get(getattr(child, "component", ""), len(order)))
        self.call_after_refresh(self._show_panels)

    def _show_panels(self) -> None:
        """Hide the panels without room, so that the focus does not go to them."""
        if not self.is_mounted:
            return
        shown_panels = [panel for panel in self.panels if panel.component in self._names]
        panels = [panel for panel in shown_panels if panel.component == self.only] or shown_panels
        count = len(panel_regions(len(panels), self.size, fewer=self.has_metrics))
        for panel in self.panels:
            panel.display = panel in panels[:count]
        self.refresh(layout=True)


def panel_regions(n_panels: int, size: Size, fewer: bool = False) -> list[Region]:
    """Return the places of the panels in rows of similar length, later rows the longer; only the first if cramped.

    Of the numbers of rows in which each panel has its least size, the one with the best proportions is used.

    Args:
        n_panels: How many there are.
        size: Room for all of them.
        fewer: Where it is too cramped for all, show as many as there is room for.
    """
    feasible = [
        n_rows
        for n_rows in range(1, n_panels + 1)
        if size.width // -(-n_panels // n_rows) >= PANEL_CELLS and size.height // n_rows >= PANEL_ROWS
    ]
    if not feasible and fewer and n_panels > 1:
        return panel_regions(n_panels - 1, size, fewer)
    if not feasible:
        return [Region(0, 0, size.width, size.height)]
    return _grid(n_panels, min(feasible, key=lambda n_rows: _distortion(n_panels, n_rows, size)), size)


def _distortion(n_panels: int, n_rows: int, size: Size) -> float:
    """Return how far the proportions of the narrowest panel are from the best ones."""
    cells, rows = size.width / -(-n_panels // n_rows), size.height / n_rows
    return abs(math.log(cells / rows / PROPORTIONS))


def _grid(n_panels: int, n_rows: int, size: Size) -> list[Region]:
    regions: list[Region] = []
    lines = [round(row * size.height / n_rows) for row in range(n_rows + 1)]
    for row in range(n_rows):
        n_columns = (n_panels + row) // n_rows
        edges = [round(column * (size.width + GUTTER) / n_columns) for column in range(n_columns + 1)]
        regions += [
            Region(edges[column], lines[row], edges[column + 1] - GUTTER - edges[column], lines[row + 1] - lines[row])
            for column in range(n_columns)
        ]
    return regions
