"""The application: holds the fleet, takes snapshots from the source's threads, and carries out what keys may cause."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from giblet_train.contract.criteria import Verdict
from giblet_train.contract.errors import GibletError
from giblet_tui.dashboard import themes
from giblet_tui.dashboard.judge import Judge
from giblet_tui.dashboard.messages import ActionSaid, Level, NodeObserved, StopConfirmed
from giblet_tui.dashboard.ports import Actions, Source, Wish
from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.help import HelpScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import StopDialog
from giblet_tui.dashboard.text import harmless
from giblet_tui.dashboard.view import merged
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.panes import Panes
from giblet_tui.dashboard.widgets.runs import RunList
from giblet_tui.fleet import Fleet, NodeSnapshot


class DashboardApp(App[int]):
    """Full screen over one fleet.

    actions: None where no key may cause anything. clock: the laptop's seconds since 1970. chosen: the first run shown.
    """

    TITLE = "giblet"
    CSS_PATH = "dashboard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help"),
        Binding("c", "compare", "compare with the marked run"),
        Binding("ctrl+n", "launch", "launch a run (dry run first)"),
        Binding("S", "stop_run", "stop the run (asks first)"),
        Binding("T", "next_theme", "next theme"),
        Binding("q", "quit", "quit; no run is touched"),
    ]

    def __init__(
        self,
        source: Source,
        actions: Actions | None,
        initial: Fleet,
        *,
        readonly: bool = False,
        clock: Callable[[], float] = time.time,
        chosen: str | None = None,
    ) -> None:
        super().__init__()
        self.animation_level = "none"
        for theme in (themes.DARK_THEME, themes.LIGHT_THEME):
            self.register_theme(theme)
        self.theme = themes.DARK_THEME.name
        self.fleet = initial
        self.readonly = readonly or actions is None
        self._source, self._actions = source, actions
        self._judge = Judge()
        self._verdicts: dict[str, Verdict] = {}
        for node in initial.nodes:
            self._verdicts |= self._judge.verdicts(node)
        self._main = MainScreen(initial, self._verdicts, clock)
        self._main.chosen = chosen

    def get_default_screen(self) -> Screen[None]:
        return self._main

    def on_mount(self) -> None:
        self._main.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """The first screen stands: observe, and collect garbage again, sparing what lives as long as the program."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        self._source.start(self._post)

    def on_unmount(self) -> None:
        self._source.close()

    def _post(self, snapshot: NodeSnapshot) -> None:
        """Called on the source's threads: judge there, then hand over one whole message."""
        self.post_message(NodeObserved(snapshot, self._judge.verdicts(snapshot)))

    def on_node_observed(self, message: NodeObserved) -> None:
        self.fleet = self.fleet.replacing(merged(self.fleet, message.snapshot))
        self._verdicts |= message.verdicts
        self._main.show(self.fleet, self._verdicts, message.snapshot.node)
        if isinstance(self.screen, CompareScreen):
            self.screen.show(self.fleet)

    def action_help(self) -> None:
        self.push_screen(
            HelpScreen(
                {
                    "views": MainScreen.BINDINGS,
                    "charts": Panes.BINDINGS,
                    "runs": RunList.BINDINGS,
                    "log": LogTail.BINDINGS,
                    "everywhere": [*DashboardApp.BINDINGS, Binding("ctrl+p", "command_palette", "all commands")],
                }
            )
        )

    def action_compare(self) -> None:
        """Compare the chosen run with a marked one, or two marked runs, the older first."""
        chosen = {self._main.chosen} - {None}
        wanted = self._main.marked if len(self._main.marked) == 2 else self._main.marked | chosen
        runs = sorted((r for r in self.fleet.runs() if r.run.run_id in wanted), key=lambda r: r.run.launched_at)
        if len(runs) == 2:
            self.push_screen(CompareScreen(self.fleet, *(run.run.run_id for run in runs)))
        else:
            self.notify("Mark one or two runs with space in the list of runs; then c.", severity="warning")

    def action_next_theme(self) -> None:
        place = themes.ORDER.index(self.theme) if self.theme in themes.ORDER else -1
        self.theme = themes.ORDER[(place + 1) % len(themes.ORDER)]

    def action_stop_run(self) -> None:
        run = self._main.run
        if run is None or not run.health.live:
            self.notify("This run has ended." if run else "No run is chosen.", severity="warning")
        elif self.readonly:
            self.notify(f"Read-only here. In a shell: giblet stop {run.run.run_id}", severity="warning", markup=False)
        else:
            run_id = run.run.run_id

            def answered(stop: bool | None) -> None:
                if stop:
                    self.post_message(StopConfirmed(run_id))

            self.push_screen(StopDialog(run), answered)

    def action_launch(self) -> None:
        from giblet_tui.dashboard.screens.launch import LaunchForm  # its widgets would delay the first screen

        if self._actions is None or self.readonly:
            self.notify("Read-only here. In a shell: giblet launch NODE CONFIG", severity="warning")
        elif not self.fleet.nodes:
            self.notify("No node is known yet. In a shell: giblet node add NAME", severity="warning")
        else:
            run = self._main.run
            self.push_screen(LaunchForm(self.fleet, self._actions, run.run.node if run else None), self._wished)

    def _wished(self, wish: Wish | None) -> None:
        if wish is not None:
            self.run_worker(lambda: self._launch(wish), thread=True, group="launch", name=wish.config)

    def _launch(self, wish: Wish) -> None:
        """On a worker thread: widgets are reached by messages only."""
        assert self._actions is not None
        try:
            run_id = self._actions.launch(wish, lambda sentence: self._say(wish.config, sentence))
        except GibletError as error:
            self._say(wish.config, str(error), "error")
        else:
            self._say(wish.config, f"{run_id} was started on {wish.node}")

    def on_stop_confirmed(self, message: StopConfirmed) -> None:
        self.notify(f"Stopping {message.run_id}", markup=False)
        self.run_worker(lambda: self._stop(message.run_id), thread=True, group="stop", name=message.run_id)

    def _stop(self, run_id: str) -> None:
        """On a worker thread: widgets are reached by messages only."""
        assert self._actions is not None
        try:
            proof = self._actions.stop(run_id, lambda sentence: self._say(run_id, sentence))
        except GibletError as error:
            self._say(run_id, str(error), "error")
        else:
            self._say(run_id, proof)

    def _say(self, subject: str, sentence: str, level: Level = "information") -> None:
        self.post_message(ActionSaid(subject, sentence, level))

    def on_action_said(self, message: ActionSaid) -> None:
        self.notify(harmless(message.sentence), title=message.subject, severity=message.level, markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        owners: list[DOMNode] = [self._main, self._main.query_one(Panes), self]
        for owner in owners:
            for binding in owner.BINDINGS:
                if isinstance(binding, Binding) and binding.description:
                    yield SystemCommand(binding.description, f"key {binding.key}", self._runner(owner, binding.action))

    def _runner(self, owner: DOMNode, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.run_action, action, owner)

        return run
