"""The main screen: decides which run is looked at, gives each pane its view, and connects the panes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from textual import events
from textual.app import ComposeResult
from textual.timer import Timer
from textual.widgets import Input, Static

from giblet_tui.dashboard.model.gpu_history import GpuHistory
from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.dashboard.model.messages import RunChosen, RunMarked
from giblet_tui.dashboard.model.pane_layout import OVERVIEW
from giblet_tui.dashboard.model.run_status import has_curves, is_stale, steps_per_epoch
from giblet_tui.dashboard.model.run_view import (
    RunView,
    Version,
    curves_of,
    grew_by_steps,
    previous_run,
    version_of,
)
from giblet_tui.dashboard.screens.pane_navigation import PaneNavigation
from giblet_tui.dashboard.screens.welcome import welcome
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.header import RunHeader
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.dashboard.widgets.pane_grid import PaneGrid
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.dashboard.widgets.status_line import StatusLine
from giblet_tui.monitor.metric_columns import Curves, StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

REST_S = 0.3
TICK_S = 1.0


class MainScreen(PaneNavigation):
    """All panes that have room, or one of them alone."""

    def __init__(
        self, fleet: Fleet, judgements: Mapping[str, Judgement], clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._clock = clock
        self._fleet, self._judgements = fleet, judgements
        self._columns: dict[str, StepColumns] = {}
        self._drawn: RunView | None = None
        self._repaint: Timer | None = None
        self._gpus = GpuHistory()
        self._drawn_at = -TICK_S
        self.marked: set[str] = set()

    def compose(self) -> ComposeResult:
        yield RunHeader(self._clock)
        yield PaneGrid(self._clock)
        yield Static(id="welcome", markup=False)
        yield Input(id="search")
        yield StatusLine(self._clock)

    def on_mount(self) -> None:
        self.query_one("#search", Input).display = False
        self._ticker = self.set_interval(TICK_S, self.tick)
        self.query_one(RunList).focus()
        self.show(self._fleet, self._judgements)

    @property
    def run(self) -> RunSnapshot | None:
        """Return the run that is looked at."""
        return self._fleet.run(self.chosen) if self.chosen else None

    @property
    def marked_runs(self) -> list[RunSnapshot]:
        """Return the marked runs that exist, newest first."""
        return [run for run in self._fleet.runs() if run.run.run_id in self.marked]

    @property
    def components(self) -> tuple[str, ...]:
        """Return the loss components of the run that is looked at."""
        return self._drawn.components if self._drawn is not None else ()

    @property
    def node_shown(self) -> NodeSnapshot | None:
        """Return the node of the chosen run, or the first node."""
        nodes = self._fleet.nodes
        holding = (n for n in nodes if any(r.run.run_id == self.chosen for r in n.runs))
        return next(holding, nodes[0] if nodes else None)

    def show(self, fleet: Fleet, judgements: Mapping[str, Judgement], run_id: str | None = None) -> None:
        """Draw this fleet from now on.

        Args:
            fleet: All nodes.
            judgements: By run id.
            run_id: The only node that is new in it. If no pane shows a run of that node, its rows of the list are
                drawn at the next tick, so that many nodes cost no more than one. Steps that follow within a second are
                shown by header and log at once, and by the curves at the next tick.
        """
        self._fleet, self._judgements = fleet, judgements
        for node in fleet.nodes:
            self._gpus.add(node)
        run = self.run
        if run_id is not None and run is not None:
            if run_id not in self._nodes_drawn():
                return
            if self._drawn is not None and self._version(run) == self._drawn.version:
                self._show_log(run)
                return
            if self._drawn is not None and not self._is_rested():
                view = self._view_of(run)
                if grew_by_steps(self._drawn, view):
                    self.query_one(RunHeader).view = view
                    self._show_log(run)
                    self._show_link()
                    return
        self._ticker.reset()
        if run is None:
            run = _first_choice(fleet.runs())
            self.chosen = run.run.run_id if run else None
        self.draw_run_list()
        self._show_run(run)

    def tick(self) -> None:
        """Bring up to date what changes by time alone: ages, and whether what is shown is still true."""
        self.draw_run_list()
        self._show_run(self.run)
        self.panes.fit_content()

    def _is_rested(self) -> bool:
        """Return True if the curves were last drawn a tick ago or earlier."""
        return time.monotonic() - self._drawn_at >= TICK_S

    def _nodes_drawn(self) -> set[str]:
        """Return the nodes that have the chosen run or one that is drawn behind it."""
        run_ids = self.marked | {self.chosen}
        return {node.node for node in self._fleet.nodes if any(run.run.run_id in run_ids for run in node.runs)}

    def draw_run_list(self) -> None:
        self.query_one(RunList).show(self._fleet, self._judgements, self.marked, self.chosen, self._clock())

    def _show_run(self, run: RunSnapshot | None) -> None:
        view = self._view_of(run) if run is not None else None
        changed = view is None or self._drawn is None or view.version != self._drawn.version
        if changed:
            self.charts.view = view
        for pane in self.query(Pane):
            if isinstance(pane, LossPanel):
                continue
            if changed or pane.TICKS:
                pane.view = view
        if changed:
            self._drawn_at = time.monotonic()
        self._drawn = view
        self._show_log(run)
        self._show_link()
        if changed:
            self.panes.fit_content()

    def _show_log(self, run: RunSnapshot | None) -> None:
        log = self.query_one(LogTail)
        log.has_curves = run is None or has_curves(run)
        log.steps_per_epoch = steps_per_epoch(run) if run is not None else 1
        log.log_lines = run.log_tail if run is not None else ()

    def _show_link(self) -> None:
        status = self.query_one(StatusLine)
        node = self.node_shown
        status.fleet, status.node = self._fleet, node
        self.set_class(node is not None and is_stale(node, self._clock()), "-stale")
        empty = self.chosen is None
        self.set_class(empty, "-empty")
        if empty:
            self.query_one("#welcome", Static).update(welcome(self._fleet))

    def _others(self, run: RunSnapshot) -> tuple[RunSnapshot, ...]:
        others = (self._fleet.run(run_id) for run_id in sorted(self.marked) if run_id != run.run.run_id)
        return tuple(other for other in others if other is not None)

    def _version(self, run: RunSnapshot) -> Version:
        node = self.node_shown
        assert node is not None
        return version_of(run, node, self._judgements.get(run.run.run_id, Judgement()), self._others(run))

    def _view_of(self, run: RunSnapshot) -> RunView:
        node = self.node_shown
        assert node is not None
        return RunView(
            run=run,
            node=node,
            curves=self._curves(run),
            judgement=self._judgements.get(run.run.run_id, Judgement()),
            others=tuple((other, self._curves(other)) for other in self._others(run)),
            previous=previous_run(self._fleet, run),
            gpus=self._gpus.of(node.node),
            version=self._version(run),
        )

    def _curves(self, run: RunSnapshot) -> Curves:
        return curves_of(self._columns.setdefault(run.run.run_id, StepColumns()), run)

    def on_descendant_focus(self) -> None:
        """Name the keys of the focused pane in the bottom line."""
        status = self.query_one(StatusLine)
        status.keys = getattr(self.focused, "KEYS", ())
        status.node = self.node_shown

    def on_charts_crossed(self, message: Charts.Crossed) -> None:
        self.query_one(LogTail).show_step(message.step)

    def on_log_tail_pointed(self, message: LogTail.Pointed) -> None:
        self.charts.set_cursor(message.step)

    def on_run_chosen(self, message: RunChosen) -> None:
        if message.run_id != self.chosen:
            self.chosen = message.run_id
            self.charts.reset_view()
            self.panes.forget_sizes()
            self.query_one(LogTail).follow = True
            self.show(self._fleet, self._judgements)

    def on_run_marked(self, message: RunMarked) -> None:
        self.marked ^= {message.run_id}
        self.show(self._fleet, self._judgements)

    def action_unmark_all(self) -> None:
        """Remove all marks."""
        self.marked.clear()
        self.show(self._fleet, self._judgements)

    def on_run_list_list_changed(self) -> None:
        self.draw_run_list()

    def on_option_list_option_selected(self) -> None:
        self.action_show_pane(OVERVIEW)

    def on_resize(self, event: events.Resize) -> None:
        """Paint all once more after the last of many resizes: terminals tear under fast resizing."""
        if self._repaint is not None:
            self._repaint.stop()
        self._repaint = self.set_timer(REST_S, self.action_repaint)


def _first_choice(runs: tuple[RunSnapshot, ...]) -> RunSnapshot | None:
    """Return the newest run that is live, or else the newest."""
    return next((r for r in runs if r.health.live), runs[0] if runs else None)
