"""What keys do to runs: stop, launch, answer alerts, and show what commands of giblet print.

Everything outside the dashboard is called through `attempt`, on a worker thread where it may take time.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from textual.app import App

from giblet_train.diagnosis.alert_responses import active_alerts
from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.attempt import attempt
from giblet_tui.dashboard.model.interfaces import DashboardActions, LaunchChoice, PaletteCommand
from giblet_tui.dashboard.model.messages import ActionReported, Level, StaleFound, StopConfirmed
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import RunListDialog, StopDialog, marked_dialog, stale_dialog
from giblet_tui.dashboard.style.safe_text import escape_line
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot

SNOOZE_S = 8 * 3600.0


class RunActions(App[int]):
    """An application with a main screen and actions."""

    CHANGES: ClassVar[frozenset[str]] = frozenset({"evaluate"})
    """Commands of `show_verb` that start work on a node, which `--readonly` refuses."""

    fleet: Fleet
    readonly: bool
    """Whether every key that changes something is refused."""
    _actions: DashboardActions | None
    _main: MainScreen

    def action_stop_run(self) -> None:
        """Ask, then stop the marked runs; without marks the chosen one."""
        if self._main.marked:
            self._stop_marked()
            return
        run = self._main.run
        if run is None or not run.health.live:
            self.notify("This run has ended." if run else "No run is chosen.", severity="warning")
        elif run.owner:
            self._notify_owner(run)
        elif self.readonly:
            self._notify_readonly(f"giblet stop {run.run.run_id}")
        else:
            run_id = run.run.run_id

            def stop_if_confirmed(confirmed: bool | None) -> None:
                if confirmed:
                    self.post_message(StopConfirmed(run_id))

            self.push_screen(StopDialog(run), stop_if_confirmed)

    def _stop_marked(self) -> None:
        runs = [run for run in self._main.marked_runs if run.health.live and not run.owner]
        if not runs:
            self.notify("None of the marked runs is live and yours. U: unmark all", severity="warning")
            return
        if self.readonly:
            self._notify_readonly(shlex.join(("giblet", "stop", *(run.run.run_id for run in runs))))
            return

        def stop_if_confirmed(confirmed: bool | None) -> None:
            for run in runs if confirmed else ():
                self.post_message(StopConfirmed(run.run.run_id))

        self.push_screen(marked_dialog(runs), stop_if_confirmed)

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

        self.push_screen(stale_dialog(message.stale), stop_if_confirmed)

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
        elif run.owner:
            self._notify_owner(run)
        elif self._actions is None or self.readonly:
            self._notify_readonly(f"giblet alerts {run.run.run_id} {option}")
        else:
            run_id, answer = run.run.run_id, self._actions.answer
            self._run_action(run_id, lambda: answer(run_id, SNOOZE_S if snooze else None))

    def action_show_verb(self, verb: str) -> None:
        """Run a command of giblet for the marked runs, else the chosen one, and show what it prints."""
        run = self._main.run
        runs = self._main.marked_runs or ([run] if run is not None else [])
        commands = [(verb, run_view.run.run_id) for run_view in runs]
        if not commands:
            self.notify("No run is chosen.", severity="warning")
        elif self.readonly and verb in self.CHANGES:
            self._notify_readonly(_in_a_row(commands))
        elif verb in self.CHANGES and len(commands) > 1:

            def run_if_confirmed(confirmed: bool | None) -> None:
                if confirmed:
                    self.show_output(*commands)

            rows = [(run_view.run.run_id, f"on {run_view.run.node}, {run_view.health.sentence}") for run_view in runs]
            title = f"{verb.capitalize()} these {len(runs)} marked runs, one after the other?"
            dialog = RunListDialog(title, rows, _in_a_row(commands), verb.capitalize())
            self.push_screen(dialog, run_if_confirmed)
        else:
            self.show_output(*commands)

    def show_output(self, *commands: Sequence[str]) -> None:
        """Show what commands of giblet print, one after the other."""
        if self._actions is None:
            return
        output = self._actions.output

        def run(show: Callable[[str], None], end: threading.Event) -> None:
            for words in commands:
                if len(commands) > 1 and not end.is_set():
                    show(f"$ {shlex.join(('giblet', *words))}")
                if not end.is_set():
                    output(words, show, end)

        self.push_screen(CommandOutputScreen(_in_a_row(commands), run))

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

    def report_errors(self, call: Callable[[], Any]) -> None:
        """Call something on the application's thread; an exception is shown and does not end the application."""
        outcome = attempt(call)
        if outcome.error:
            self._report("giblet", outcome.error, "error")

    def _notify_owner(self, run: RunSnapshot) -> None:
        self.notify(f"A run of {run.owner}: you may read it, not change it.", severity="warning", markup=False)

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


def _in_a_row(commands: Sequence[Sequence[str]]) -> str:
    """Return a line for a shell that runs commands one after the other."""
    return "; ".join(shlex.join(("giblet", *words)) for words in commands)
