"""The application: holds the fleet, takes snapshots from the source's threads, and carries out what keys may cause."""

from __future__ import annotations

import gc
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from giblet_train.diagnosis.alerts import active_alerts
from giblet_train.diagnosis.criteria import Verdict
from giblet_train.schema.errors import GibletError
from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.interfaces import DashboardActions, PaletteCommand, SnapshotSource, Wish
from giblet_tui.dashboard.model.messages import ActionReported, Level, NodeObserved, StopConfirmed
from giblet_tui.dashboard.model.run_view import merge_snapshot
from giblet_tui.dashboard.model.verdict_cache import VerdictCache
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.help import HelpScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import StopDialog
from giblet_tui.dashboard.style import themes
from giblet_tui.dashboard.style.safe_text import escape_line
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.panes import Panes
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot

SNOOZE_S = 8 * 3600.0


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
        Binding("W", "why", "why the run does badly"),
        Binding("A", "answer", "acknowledge the run's alerts, for everyone"),
        Binding("Z", "answer(True)", "snooze the run's alerts for 8 h"),
        Binding("T", "next_theme", "next theme"),
        Binding("q", "quit", "quit; no run is touched"),
    ]

    def __init__(
        self,
        source: SnapshotSource,
        actions: DashboardActions | None,
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
        self._judge = VerdictCache()
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
        self.fleet = self.fleet.with_node(merge_snapshot(self.fleet, message.snapshot))
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
            self._notify_readonly(f"giblet stop {run.run.run_id}")
        else:
            run_id = run.run.run_id

            def answered(stop: bool | None) -> None:
                if stop:
                    self.post_message(StopConfirmed(run_id))

            self.push_screen(StopDialog(run), answered)

    def action_launch(self) -> None:
        from giblet_tui.dashboard.screens.launch import LaunchForm

        if self._actions is None or self.readonly:
            self._notify_readonly("giblet launch NODE CONFIG")
        elif not self.fleet.nodes:
            self.notify("No node is known yet. In a shell: giblet node add NAME", severity="warning")
        else:
            run = self._main.run
            self.push_screen(LaunchForm(self.fleet, self._actions, run.run.node if run else None), self._launch_chosen)

    def _launch_chosen(self, wish: Wish | None) -> None:
        if wish is not None and self._actions is not None:
            launch = self._actions.launch

            def started() -> str:
                run_id = launch(wish, lambda sentence: self._report(wish.config, sentence))
                return f"{run_id} was started on {wish.node}"

            self._run_action(wish.config, started)

    def action_answer(self, snooze: bool = False) -> None:
        """Acknowledge or snooze every standing alert of the run, beside the run on its node."""
        run = self._main.run
        how = f"--snooze {duration(SNOOZE_S).split()[0]}" if snooze else "--ack"
        if run is None or not active_alerts(run.alerts):
            self.notify("No alert stands here.", severity="warning")
        elif self._actions is None or self.readonly:
            self._notify_readonly(f"giblet alerts {run.run.run_id} {how}")
        else:
            run_id, answer = run.run.run_id, self._actions.answer
            self._run_action(run_id, lambda: answer(run_id, SNOOZE_S if snooze else None))

    def action_why(self) -> None:
        if self._main.run is not None:
            self.show_output(("why", self._main.run.run.run_id))

    def show_output(self, words: Sequence[str]) -> None:
        """Show what a verb that only reads prints."""
        if self._actions is None:
            return
        self.push_screen(CommandOutputScreen(shlex.join(("giblet", *words)), partial(self._actions.output, words)))

    def _run_palette_command(self, verb: PaletteCommand) -> None:
        """Carry out a verb of the palette: show it, give it the terminal, or copy its command."""
        if verb.how == "show":
            self.show_output(verb.words)
        elif verb.how == "terminal" and self._actions is not None and not self.readonly:
            with self.suspend():
                subprocess.run(self._actions.argv(verb.words), check=False)
            self.refresh()
        else:
            self.copy_to_clipboard(verb.command)
            self.notify(verb.command, title="copied, for a shell", markup=False)

    def _notify_readonly(self, command: str) -> None:
        self.notify(f"Read-only here. In a shell: {command}", severity="warning", markup=False)

    def on_stop_confirmed(self, message: StopConfirmed) -> None:
        self.notify(f"Stopping {message.run_id}", markup=False)
        assert self._actions is not None
        stop, run_id = self._actions.stop, message.run_id
        self._run_action(run_id, lambda: stop(run_id, lambda sentence: self._report(run_id, sentence)))

    def _run_action(self, subject: str, action: Callable[[], str]) -> None:
        """Do it on a worker thread, and say what came of it; from there widgets are reached by messages only."""

        def do() -> None:
            try:
                self._report(subject, action())
            except GibletError as error:
                self._report(subject, str(error), "error")

        self.run_worker(do, thread=True, group="actions", name=subject)

    def _report(self, subject: str, sentence: str, level: Level = "information") -> None:
        self.post_message(ActionReported(subject, sentence, level))

    def on_action_reported(self, message: ActionReported) -> None:
        self.notify(escape_line(message.sentence), title=message.subject, severity=message.level, markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key of every pane, then every verb of the command line about the run and node looked at."""
        yield from super().get_system_commands(screen)
        panes: list[DOMNode] = [self._main.query_one(kind) for kind in (Panes, RunList, LogTail)]
        owners: list[DOMNode] = [self._main, *panes, self]
        for owner in owners:
            for binding in owner.BINDINGS:
                if isinstance(binding, Binding) and binding.description:
                    yield SystemCommand(binding.description, f"key {binding.key}", self._runner(owner, binding.action))
        run, node = self._main.run, self._main.node_shown
        known = (run.run.run_id if run else None, node.node if node else None)
        for verb in self._actions.verbs(*known) if self._actions is not None else ():
            how = "" if verb.how == "show" else " (copies the command)" if verb.how == "copy" else " (in the terminal)"
            yield SystemCommand(verb.command, f"{verb.about}{how}", partial(self._run_palette_command, verb))

    def _runner(self, owner: DOMNode, action: str) -> Callable[[], None]:
        def run() -> None:
            self.call_later(self.run_action, action, owner)

        return run
