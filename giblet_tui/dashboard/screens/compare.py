"""The compare screen: what two runs differ in on top, their losses over one another below."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from giblet_tui.dashboard.model.run_view import RunView, merge_resumed
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import INK, MUTED
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.monitor.metric_columns import NAMES, StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot
from giblet_tui.reporting.compare import Comparison, change_lines, compare, doubt_lines, figure_lines


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
        with Charts(id="overlays"):
            for name in NAMES:
                yield LossPanel(name)

    def on_mount(self) -> None:
        self.show(self._fleet)
        self.query_one(LossPanel).focus()

    def show(self, fleet: Fleet) -> None:
        """Draw the two runs as this fleet has them; a run that it has no more stays as it was."""
        self._fleet = fleet
        old, new = (fleet.run(run_id) for run_id in self._ids)
        if old is None or new is None or not self.query(LossPanel):
            return
        seen = self.comparison = compare(old, new)
        other = INK[self.app.current_theme.dark]["other"]
        title = join_parts(("━ ", "bold"), (_title(new), "bold"), ("   ⠒⠂ ", other), (_title(old), other))
        self.query_one("#compared", Static).update(title)
        self.query_one("#changes", Static).update(_page(doubt_lines(seen), "$error bold") + _page(change_lines(seen)))
        self.query_one("#figures", Static).update(_page(figure_lines(seen), MUTED))
        view = self._view(old, new)
        for panel in self.query(LossPanel):
            panel.in_doubt = panel.component in seen.doubts
            panel.view = view

    def _view(self, old: RunSnapshot, new: RunSnapshot) -> RunView:
        curves = {r.run.run_id: merge_resumed(self._columns[r.run.run_id], self._fleet, r) for r in (old, new)}
        return RunView(
            run=new,
            node=_holding(self._fleet, new),
            curves=curves[new.run.run_id],
            others=((old, curves[old.run.run_id]),),
        )


def _page(lines: list[str], ink: str = "") -> Content:
    return Content("").join([join_parts((one, ink)) + Content("\n") for one in lines])


def _title(run: RunSnapshot) -> str:
    return f"{run.run.name} {run.run.run_id[-4:]} on {run.run.node}, {run.health.state}"


def _holding(fleet: Fleet, run: RunSnapshot) -> NodeSnapshot:
    return next(node for node in fleet.nodes if any(r.run.run_id == run.run.run_id for r in node.runs))
