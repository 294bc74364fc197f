"""The main screen: decides which run is looked at, gives each pane its view, and knows how the panes relate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import reactive
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input, Static

from giblet_train.diagnosis.criteria import Verdict
from giblet_tui.dashboard.model.gpu_history import GpuHistory
from giblet_tui.dashboard.model.messages import RunChosen, RunMarked
from giblet_tui.dashboard.model.run_view import (
    RunView,
    merge_resumed,
    needs_no_redraw,
    same_records,
    stale,
    steps_per_epoch,
)
from giblet_tui.dashboard.screens.welcome import welcome
from giblet_tui.dashboard.widgets.alerts import Alerts
from giblet_tui.dashboard.widgets.hardware import Hardware
from giblet_tui.dashboard.widgets.header import RunHeader
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.dashboard.widgets.panes import Panes
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.dashboard.widgets.status_line import StatusLine
from giblet_tui.monitor.metric_columns import NAMES, Curves, StepColumns
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot, RunSnapshot

WIDE = 100
VIEWS: dict[str, tuple[str, ...]] = {
    "overview": ("total", "balance", "clock", "verdict", "hardware", "log"),
    "runs": ("runs",),
    "losses": NAMES,
    "balance": ("balance",),
    "clock": ("clock",),
    "verdict": ("verdict",),
    "hardware": ("hardware",),
    "log": ("log",),
    "alerts": ("alerts",),
}
REST_S = 0.3
TICK_S = 1.0


class MainScreen(Screen[None]):
    """All panes at once from 100 columns on, one view at a time below, or when one is shown full screen."""

    VERTICAL_BREAKPOINTS = [(0, "-short"), (20, "-low"), (34, "-tall")]  # noqa: RUF012 (Textual's own type)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide"), (150, "-generous")]  # noqa: RUF012

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(i), f"view('{name}')", f"{name}") for i, name in enumerate(VIEWS, 1)),
        Binding("tab", "next_pane", "next pane or view", priority=True),
        Binding("z", "full", "full screen and back"),
        Binding("escape", "back", "back"),
        Binding("slash", "search", "search the log"),
        Binding("f", "follow", "follow the log"),
        Binding("y", "copy", "copy the run id"),
        Binding("ctrl+l", "repaint", "paint the screen anew"),
    ]

    view: reactive[str] = reactive("overview", repaint=False)
    full: reactive[str] = reactive("", repaint=False)

    def __init__(self, fleet: Fleet, verdicts: Mapping[str, Verdict], clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        self._fleet, self._verdicts = fleet, verdicts
        self._columns: dict[str, StepColumns] = {}
        self._drawn: RunView | None = None
        self._repaint: Timer | None = None
        self._gpus = GpuHistory()
        self.marked: set[str] = set()
        self.chosen: str | None = None

    def compose(self) -> ComposeResult:
        yield RunHeader(self._clock)
        yield Panes(self._clock)
        yield Static(id="welcome", markup=False)
        yield Input(id="search", placeholder="search the log: enter finds, esc closes")
        yield StatusLine(self._clock)

    def on_mount(self) -> None:
        self.query_one("#search", Input).display = False
        self._ticker = self.set_interval(TICK_S, self.tick)
        self._arrange()
        self.query_one(RunList).focus()
        self.show(self._fleet, self._verdicts)

    def show(self, fleet: Fleet, verdicts: Mapping[str, Verdict], told: str | None = None) -> None:
        """Draw this fleet from now on. told: the one node that is new in it; where no pane shows any run of that
        node, its rows in the list wait for the next tick, so that many nodes cost no more than one."""
        self._fleet, self._verdicts = fleet, verdicts
        for seen in fleet.nodes:
            self._gpus.add(seen)
        run = self.run
        if told is not None and run is not None and told not in self._nodes_drawn():
            return
        if told is not None and run is not None and self._without_news(run):
            self._show_log(run)
            return
        self._ticker.reset()
        if run is None:
            run = _worth_seeing(fleet.runs())
            self.chosen = run.run.run_id if run else None
        self._show_list()
        self._show_run(run)

    def _without_news(self, run: RunSnapshot) -> bool:
        """Does all but the log wait for the next tick?"""
        node = self.node_shown
        return node is not None and needs_no_redraw(self._drawn, run, node, self._verdicts.get(run.run.run_id))

    def _nodes_drawn(self) -> set[str]:
        """Nodes that hold the chosen run or one that is drawn behind it."""
        drawn = self.marked | {self.chosen}
        return {node.node for node in self._fleet.nodes if any(run.run.run_id in drawn for run in node.runs)}

    def tick(self) -> None:
        """What changes by time alone: ages, and whether what is shown is still what is."""
        self._show_list()
        self._show_run(self.run)
        self.query_one(Alerts).update_content()

    def _show_list(self) -> None:
        self.query_one(RunList).show(self._fleet, self._verdicts, self.marked, self.chosen, self._clock())

    def _show_run(self, run: RunSnapshot | None) -> None:
        view = self._view_of(run) if run is not None else None
        fresh = view is None or not same_records(self._drawn, view)
        for pane in self.query(Pane):
            if fresh or isinstance(pane, RunHeader | Hardware):
                pane.view = view
        self._drawn = view
        self._show_log(run)
        self._show_link()

    def _show_log(self, run: RunSnapshot | None) -> None:
        log = self.query_one(LogTail)
        log.steps_per_epoch = steps_per_epoch(run) if run is not None else 1
        log.log_lines = run.log_tail if run is not None else ()

    def _show_link(self) -> None:
        status = self.query_one(StatusLine)
        node = self.node_shown
        status.fleet, status.node = self._fleet, node
        self.set_class(node is not None and stale(node, self._clock()), "-stale")
        empty = self.chosen is None
        self.set_class(empty, "-empty")
        if empty:
            self.query_one("#welcome", Static).update(welcome(self._fleet))

    @property
    def node_shown(self) -> NodeSnapshot | None:
        """The node that holds the chosen run, or the first."""
        nodes = self._fleet.nodes
        holding = (n for n in nodes if any(r.run.run_id == self.chosen for r in n.runs))
        return next(holding, nodes[0] if nodes else None)

    def _view_of(self, run: RunSnapshot) -> RunView:
        node = self.node_shown
        assert node is not None
        others = [self._fleet.run(i) for i in sorted(self.marked) if i != run.run.run_id]
        kept = {run.run.run_id, *self.marked}
        self._columns = {i: c for i, c in self._columns.items() if i in kept}
        return RunView(
            run=run,
            node=node,
            curves=self._curves(run),
            verdict=self._verdicts.get(run.run.run_id),
            others=tuple((other, self._curves(other)) for other in others if other is not None),
            gpus=self._gpus.of(node.node),
        )

    def _curves(self, run: RunSnapshot) -> Curves:
        return merge_resumed(self._columns.setdefault(run.run.run_id, StepColumns()), self._fleet, run)

    def on_descendant_focus(self) -> None:
        """The bottom line tells the keys of what has the focus."""
        status = self.query_one(StatusLine)
        status.keys = getattr(self.focused, "KEYS", ())
        status.node = self.node_shown

    def on_charts_crossed(self, message: Panes.Crossed) -> None:
        self.query_one(LogTail).show_step(message.step)

    def on_log_tail_pointed(self, message: LogTail.Pointed) -> None:
        self.query_one(Panes).set_cursor(message.step)

    def on_run_chosen(self, message: RunChosen) -> None:
        if message.run_id != self.chosen:
            self.chosen = message.run_id
            self.query_one(Panes).reset_view()
            self.query_one(LogTail).follow = True
            self.show(self._fleet, self._verdicts)

    def on_run_marked(self, message: RunMarked) -> None:
        self.marked ^= {message.run_id}
        self.show(self._fleet, self._verdicts)

    def on_option_list_option_selected(self) -> None:
        self.view = "overview"

    def on_resize(self, event: events.Resize) -> None:
        """Arrange at once, and paint all once more when it has come to rest: terminals tear under fast resizing."""
        self._arrange()
        if self._repaint is not None:
            self._repaint.stop()
        self._repaint = self.set_timer(REST_S, self.action_repaint)

    def action_repaint(self) -> None:
        self.app.refresh()

    def watch_view(self, old: str, new: str) -> None:
        self.remove_class(f"view-{old}")
        self.add_class(f"view-{new}")
        self._arrange()

    def watch_full(self) -> None:
        self._arrange()
        self.call_after_refresh(self._show_list)

    def _arrange(self) -> None:
        """Which panes are shown: all where there is room, else those of the view, or the one shown full."""
        if not self.is_mounted:
            return
        single = self.size.width < WIDE or bool(self.full)
        shown = (self.full,) if self.full else VIEWS[self.view]
        self.set_class(single, "-single")
        self.set_class(bool(self.full), "-full")
        for pane in self._panes():
            pane.set_class(single and pane.id not in shown, "-hidden")

    def _panes(self) -> Iterable[Widget]:
        return self.query_one(Panes).children

    def action_view(self, name: str) -> None:
        """Show a view, or where all are shown move the focus to it."""
        self.full = ""
        self.view = name
        first = self.query_one(f"#{VIEWS[name][0]}")
        if not first.display or first.has_class("-hidden"):
            self.full = VIEWS[name][0]
        if first.focusable:
            first.focus()

    def action_next_pane(self) -> None:
        if self.has_class("-single") and not self.full:
            names = list(VIEWS)
            self.action_view(names[(names.index(self.view) + 1) % len(names)])
        else:
            self.focus_next()

    def action_full(self) -> None:
        focused = self.focused.id if self.focused is not None else None
        known = {pane.id for pane in self._panes()}
        self.full = "" if self.full or focused not in known else focused or ""

    def action_back(self) -> None:
        """Leave what is innermost: the search, the full screen, the crosshair, the view."""
        search = self.query_one("#search", Input)
        log = self.query_one(LogTail)
        if search.display:
            search.display = False
            log.focus()
        elif self.full:
            self.full = ""
        elif log.needle:
            log.needle = ""
        elif self.query_one(Panes).lens.cursor is not None:
            self.query_one(Panes).action_cross()
        else:
            self.view = "overview"

    def action_search(self) -> None:
        if self.size.width < WIDE:
            self.action_view("log")
        search = self.query_one("#search", Input)
        search.display = True
        search.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        log = self.query_one(LogTail)
        log.needle = event.value
        event.input.display = False
        log.focus()
        if event.value:
            log.action_find(-1)

    def action_follow(self) -> None:
        log = self.query_one(LogTail)
        log.follow = not log.follow

    def action_copy(self) -> None:
        if self.chosen is not None:
            self.app.copy_to_clipboard(self.chosen)
            self.notify(f"copied {self.chosen}", timeout=2, markup=False)

    @property
    def run(self) -> RunSnapshot | None:
        """The run that is looked at."""
        return self._fleet.run(self.chosen) if self.chosen else None


def _worth_seeing(runs: tuple[RunSnapshot, ...]) -> RunSnapshot | None:
    """The newest run that still lives, or else the newest."""
    return next((r for r in runs if r.health.live), runs[0] if runs else None)
