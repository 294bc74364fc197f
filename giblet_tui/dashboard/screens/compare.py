"""The compare screen: the names of two runs over their columns, what they differ in, their losses drawn together."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from giblet_tui.dashboard.model.run_view import RunView, components_of, curves_of
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts
from giblet_tui.dashboard.style.styles import INK, MUTED
from giblet_tui.dashboard.style.themes import palette_of
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.monitor.metric_columns import StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.reporting.compare import Comparison, change_lines, compare, doubt_lines, figure_lines
from giblet_tui.reporting.formatting import clock


class CompareScreen(Screen[None]):
    """Two runs by their ids, the older one drawn behind the newer."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 (Textual's own type)
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,c", "dismiss", "back")]

    def __init__(self, fleet: Fleet, old: str, new: str) -> None:
        super().__init__()
        self._fleet, self._ids = fleet, (old, new)
        self._columns = {run_id: StepColumns() for run_id in self._ids}
        self.comparison: Comparison | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="compared", markup=False)
        with Horizontal(id="differences"):
            with VerticalScroll():
                yield Static(id="changes", markup=False)
            yield Static(id="figures", markup=False)
        run = self._fleet.run(self._ids[1])
        yield Charts(components_of(run) if run is not None else (), id="overlays")

    def on_mount(self) -> None:
        self.show(self._fleet)
        self.query_one(LossPanel).focus()

    def show(self, fleet: Fleet) -> None:
        """Draw the two runs as this fleet has them; a run that it no longer has stays as it was."""
        self._fleet = fleet
        old, new = (fleet.run(run_id) for run_id in self._ids)
        if old is None or new is None or not self.query(LossPanel):
            return
        comparison = self.comparison = compare(old, new)
        self.query_one("#compared", Static).update(self._names(old, new))
        changes = _lines(doubt_lines(comparison), "$error bold") + _lines(change_lines(comparison))
        self.query_one("#changes", Static).update(changes)
        heading, *figures = figure_lines(comparison)
        self.query_one("#figures", Static).update(_lines([heading], MUTED) + _lines(figures))
        charts = self.query_one(Charts)
        for panel in charts.panels:
            panel.in_doubt = panel.component in comparison.doubts
        charts.view = self._view(old, new)

    def _names(self, old: RunSnapshot, new: RunSnapshot) -> Content:
        """Return a row for each run: its role as in the columns, its line in the charts, its name and launch."""
        width = max(1, self.size.width - 2)
        other = INK[palette_of(self.app.current_theme)]["other"]
        return Content("\n").join(
            [
                _role("OLD ", "⠒⠂ ", old, other, width),
                _role("NEW ", "━━ ", new, "", width),
            ]
        )

    def _view(self, old: RunSnapshot, new: RunSnapshot) -> RunView:
        curves = {r.run.run_id: curves_of(self._columns[r.run.run_id], r) for r in (old, new)}
        return RunView(
            run=new,
            node=_node_of(self._fleet, new),
            curves=curves[new.run.run_id],
            others=((old, curves[old.run.run_id]),),
        )


def _role(role: str, sample: str, run: RunSnapshot, style: str, width: int) -> Content:
    """Return what a run is called in the comparison; its launch and its note where they fit."""
    note = f": {run.run.note}" if run.run.note else ""
    name: list[Part] = [(role, "bold"), (sample, style), (_name(run), "bold")]
    return fit_parts([*name, (f"  launched {clock(run.run.launched_at)}", MUTED), (note, MUTED)], width)


def _lines(lines: list[str], style: str = "") -> Content:
    return Content("").join([join_parts((line, style)) + Content("\n") for line in lines])


def _name(run: RunSnapshot) -> str:
    return f"{run.run.name} {run.run.run_id[-4:]} on {run.run.node}, {run.health.state}"


def _node_of(fleet: Fleet, run: RunSnapshot) -> NodeSnapshot:
    return next(node for node in fleet.nodes if any(r.run.run_id == run.run.run_id for r in node.runs))
