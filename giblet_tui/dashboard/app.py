"""The application: holds the fleet, takes snapshots from the source's threads, and carries out what keys may cause."""

from __future__ import annotations

import gc
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from textual.actions import ActionParseResult
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from giblet_train.diagnosis.alerts import active_alerts
from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.attempt import attempt, error_sentence
from giblet_tui.dashboard.model.interfaces import (
    DashboardActions,
    LaunchChoice,
    PaletteCommand,
    SnapshotSource,
)
from giblet_tui.dashboard.model.judgement import Judgement, JudgementCache
from giblet_tui.dashboard.model.messages import ActionReported, Level, NodeObserved, StaleFound, StopConfirmed
from giblet_tui.dashboard.model.run_view import merge_snapshot
from giblet_tui.dashboard.palette import system_commands
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.help import HelpScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import StopDialog, StopStaleDialog
from giblet_tui.dashboard.settings import Settings
from giblet_tui.dashboard.style import themes
from giblet_tui.dashboard.style.plain_glyphs import PlainGlyphs
from giblet_tui.dashboard.style.safe_text import escape_line
from giblet_tui.dashboard.widgets.chart_group import CHART_BINDINGS
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot

SNOOZE_S = 8 * 3600.0


class DashboardApp(App[int]):
    """The whole screen over one fleet."""

    TITLE = "giblet"
    CSS_PATH = "dashboard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", id="help"),
        Binding("ctrl+n", "launch", "launch a run (dry run first)", id="launch"),
        Binding("c", "compare", "compare with the marked run", id="compare"),
        Binding("S", "stop_run", "stop the run (asks first)", id="stop"),
        Binding("X", "stop_stale", "stop stale runs (lists them, asks first)", id="stop_stale"),
        Binding("W", "show_verb('why')", "why the run does badly", id="why"),
        Binding("R", "show_verb('report')", "report of the run", id="report"),
        Binding("E", "show_verb('evaluate')", "evaluate the run on its test data", id="evaluate"),
        Binding("A", "answer", "acknowledge the run's alerts, for everyone", id="acknowledge"),
        Binding("Z", "answer(True)", "snooze the run's alerts for 8 h", id="snooze"),
        Binding("T", "next_theme", "next theme", id="theme"),
        Binding("q", "quit", "quit; no run is touched", id="quit"),
    ]
    CHANGES: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    """Commands of `show_verb` that start work on a node, which `--readonly` refuses."""

    def __init__(
        self,
        source: SnapshotSource,
        actions: DashboardActions | None,
        initial: Fleet,
        *,
        readonly: bool = False,
        clock: Callable[[], float] = time.time,
        chosen: str | None = None,
        settings: Settings | None = None,
        plain: bool = False,
    ) -> None:
        """Prepare the application.

        Args:
            source: Posts node snapshots once the first screen is drawn.
            actions: What keys may cause; None if they may cause nothing.
            initial: What is known before the first snapshot.
            readonly: Whether every key that changes something is refused.
            clock: Seconds since 1970 on the laptop.
            chosen: The run that is shown first.
            settings: Theme and key map of the user.
            plain: Whether the terminal gets ASCII only.
        """
        super().__init__()
        settings = settings or Settings()
        self.animation_level = "none"
        for theme in (themes.DARK_THEME, themes.LIGHT_THEME):
            self.register_theme(theme)
        self.theme = settings.theme if settings.theme in self.available_themes else themes.DARK_THEME.name
        self.set_keymap(dict(settings.keys))
        if plain:
            self._filters.append(PlainGlyphs())
        self.fleet = initial
        self.readonly = readonly or actions is None
        self._source, self._actions = source, actions
        self._judge = JudgementCache()
        self._judgements: dict[str, Judgement] = {}
        for node in initial.nodes:
            self._judgements |= self._judge.judgements(node)
        self._main = MainScreen(initial, self._judgements, clock)
        self._main.chosen = chosen

    def get_default_screen(self) -> Screen[None]:
        return self._main

    def on_mount(self) -> None:
        self._main.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """After the first screen: observe, and collect garbage again, except what lives as long as the program."""
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        self._source.start(self._post)

    def on_unmount(self) -> None:
        self._source.close()

    async def run_action(
        self,
        action: str | ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run the action of a key; an unexpected exception is shown and does not end the application."""
        try:
            return await super().run_action(action, default_namespace, namespaces)
        except Exception as error:
            self._report("giblet", error_sentence(error), "error")
            return True

    def _post(self, snapshot: NodeSnapshot) -> None:
        """Judge a snapshot on the source's thread, then post one whole message."""
        self.post_message(NodeObserved(snapshot, self._judge.judgements(snapshot)))

    def on_node_observed(self, message: NodeObserved) -> None:
        self.fleet = self.fleet.with_node(merge_snapshot(self.fleet, message.snapshot))
        self._judgements |= message.judgements
        self._main.show(self.fleet, self._judgements, message.snapshot.node)
        if isinstance(self.screen, CompareScreen):
            self.screen.show(self.fleet)

    def action_help(self) -> None:
        sections: dict[str, Iterable[BindingType]] = {
            "screen": MainScreen.BINDINGS,
            "charts": CHART_BINDINGS,
            "runs": RunList.BINDINGS,
            "log": LogTail.BINDINGS,
            "everywhere": [*DashboardApp.BINDINGS, Binding("ctrl+p", "command_palette", "all commands")],
        }
        self.push_screen(HelpScreen(sections, self._main.components))

    def action_compare(self) -> None:
        """Compare the chosen run with a marked one, or two marked runs, the older first."""
        marked = self._main.marked
        run_ids = marked if len(marked) == 2 else marked | ({self._main.chosen} - {None})
        runs = sorted((r for r in self.fleet.runs() if r.run.run_id in run_ids), key=lambda r: r.run.launched_at)
        if len(runs) == 2:
            self.push_screen(CompareScreen(self.fleet, *(run.run.run_id for run in runs)))
        else:
            self.notify("Mark one or two runs with space in the list of runs; then press c.", severity="warning")

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

            def stop_if_confirmed(confirmed: bool | None) -> None:
                if confirmed:
                    self.post_message(StopConfirmed(run_id))

            self.push_screen(StopDialog(run), stop_if_confirmed)

    def on_stop_confirmed(self, message: StopConfirmed) -> None:
        self.notify(f"Stopping {message.run_id}", markup=False)
        assert self._actions is not None
        stop, run_id = self._actions.stop, message.run_id
        self._run_action(run_id, lambda: stop(run_id, lambda sentence: self._report(run_id, sentence)))

    def action_stop_stale(self) -> None:
        """Look for stale runs on all nodes, then list them and ask."""
        if self._actions is None or self.readonly:
            self._notify_readonly("giblet stop --stale")
            return
        find_stale = self._actions.find_stale

        def find() -> str:
            stale = find_stale(lambda sentence: self._report("stale runs", sentence))
            if stale:
                self.post_message(StaleFound(stale))
            return f"{len(stale)} stale runs" if stale else "No run is stale."

        self.notify("Looking for stale runs on all nodes.")
        self._run_action("stale runs", find)

    def on_stale_found(self, message: StaleFound) -> None:
        def stop_if_confirmed(confirmed: bool | None) -> None:
            for run in message.stale if confirmed else ():
                self.post_message(StopConfirmed(run.run_id))

        self.push_screen(StopStaleDialog(message.stale), stop_if_confirmed)

    def action_launch(self) -> None:
        from giblet_tui.dashboard.screens.launch import LaunchForm

        if self._actions is None or self.readonly:
            self._notify_readonly("giblet launch NODE CONFIG")
        elif not self.fleet.nodes:
            self.notify("No node is known yet. In a shell: giblet node add NAME", severity="warning")
        else:
            run, configs = self._main.run, self._actions.configs()
            form = LaunchForm(self.fleet, self._actions, run.run.node if run else None, configs)
            self.push_screen(form, self._on_launch_chosen)

    def _on_launch_chosen(self, choice: LaunchChoice | None) -> None:
        if choice is not None and self._actions is not None:
            launch = self._actions.launch

            def start() -> str:
                run_id = launch(choice, lambda sentence: self._report(choice.config, sentence))
                return f"{run_id} was started on {choice.node}"

            self._run_action(choice.config, start)

    def action_answer(self, snooze: bool = False) -> None:
        """Acknowledge or snooze every active alert of the run; the answer is stored with the run on its node."""
        run = self._main.run
        option = f"--snooze {duration(SNOOZE_S).split()[0]}" if snooze else "--ack"
        if run is None or not active_alerts(run.alerts):
            self.notify("There is no active alert.", severity="warning")
        elif self._actions is None or self.readonly:
            self._notify_readonly(f"giblet alerts {run.run.run_id} {option}")
        else:
            run_id, answer = run.run.run_id, self._actions.answer
            self._run_action(run_id, lambda: answer(run_id, SNOOZE_S if snooze else None))

    def action_show_verb(self, verb: str) -> None:
        """Run a command of giblet for the chosen run and show what it prints."""
        run = self._main.run
        if run is None:
            self.notify("No run is chosen.", severity="warning")
        elif self.readonly and verb in self.CHANGES:
            self._notify_readonly(f"giblet {verb} {run.run.run_id}")
        else:
            self.show_output((verb, run.run.run_id))

    def show_output(self, words: Sequence[str]) -> None:
        """Show what a command of giblet prints."""
        if self._actions is not None:
            run = partial(self._actions.output, words)
            self.push_screen(CommandOutputScreen(shlex.join(("giblet", *words)), run))

    def run_palette_command(self, command: PaletteCommand) -> None:
        """Show what a command prints, give it the terminal, or copy it for a shell."""
        if self.readonly and command.words[0] in self.CHANGES:
            self._notify_readonly(command.command)
        elif command.how == "show":
            self.show_output(command.words)
        elif command.how == "terminal" and self._actions is not None and not self.readonly:
            argv = self._actions.argv(command.words)
            with self.suspend():
                subprocess.run(argv, check=False)
            self.refresh()
        else:
            self.copy_to_clipboard(command.command)
            self.notify(command.command, title="copied, for a shell", markup=False)

    def palette_commands(self) -> Sequence[PaletteCommand]:
        """Return the commands of giblet for the run and node that are shown."""
        if self._actions is None:
            return ()
        run, node, verbs = self._main.run, self._main.node_shown, self._actions.verbs
        outcome = attempt(lambda: verbs(run.run.run_id if run else None, node.node if node else None))
        if outcome.error:
            self._report("palette", outcome.error, "error")
        return outcome.value or ()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return every key of every pane, then every command of giblet for the run and node that are shown."""
        return system_commands(self, self._main)

    def report_errors(self, call: Callable[[], Any]) -> None:
        """Call something on the application's thread; an exception is shown and does not end the application."""
        outcome = attempt(call)
        if outcome.error:
            self._report("giblet", outcome.error, "error")

    def _notify_readonly(self, command: str) -> None:
        self.notify(f"Read-only here. In a shell: {command}", severity="warning", markup=False)

    def _run_action(self, subject: str, action: Callable[[], str]) -> None:
        """Run an action on a worker thread and report its result; threads reach widgets by messages only."""

        def run() -> None:
            outcome = attempt(action)
            self._report(subject, outcome.error or outcome.value or "done", "error" if outcome.error else "information")

        self.run_worker(run, thread=True, group="actions", name=subject, exit_on_error=False)

    def _report(self, subject: str, sentence: str, level: Level = "information") -> None:
        self.post_message(ActionReported(subject, sentence, level))

    def on_action_reported(self, message: ActionReported) -> None:
        self.notify(escape_line(message.sentence), title=message.subject, severity=message.level, markup=False)
