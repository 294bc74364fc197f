"""The entries of the command palette: every key of every pane, then every command of giblet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.binding import Binding
from textual.dom import DOMNode

from giblet_train.diagnosis.alert_responses import active_alerts
from giblet_tui.dashboard.screens.help import key_words
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.pane_grid import PaneGrid
from giblet_tui.dashboard.widgets.run_list import RunList

if TYPE_CHECKING:
    from giblet_tui.dashboard.app import DashboardApp
    from giblet_tui.dashboard.screens.main import MainScreen

NEEDS_RUN = ("stop_run", "show_verb", "compare", "copy", "mark")
NEEDS_ALERT = ("answer",)
HOW_WORDS = {"show": "", "copy": " (copies the command)", "terminal": " (in the terminal)"}


def system_commands(app: DashboardApp, main: MainScreen) -> Iterator[SystemCommand]:
    """Yield what can be done now; keys that need a run or an alert are left out where there is none."""
    yield SystemCommand("choose a theme", "all themes of Textual", app.action_change_theme)
    owners: list[DOMNode] = [app, main, *(main.query_one(kind) for kind in (PaneGrid, RunList, LogTail))]
    run = main.run
    hidden_commands = (
        *(() if run is not None else NEEDS_RUN),
        *(() if run and active_alerts(run.alerts) else NEEDS_ALERT),
    )
    for owner in owners:
        for binding in owner.BINDINGS:
            if isinstance(binding, Binding) and binding.description and not binding.action.startswith(hidden_commands):
                prefix = "pane: " if binding.action.startswith("show_pane") else ""
                title = f"{prefix}{binding.description}"
                yield SystemCommand(title, f"key {key_words(binding.key)}", _runner(app, owner, binding.action))
    for command in app.palette_commands():
        run_command = partial(app.report_errors, partial(app.run_palette_command, command))
        yield SystemCommand(command.command, f"{command.about}{HOW_WORDS[command.how]}", run_command)


def _runner(app: DashboardApp, owner: DOMNode, action: str) -> Callable[[], None]:
    def run() -> None:
        app.call_later(app.run_action, action, owner)

    return run


def binding_ids() -> frozenset[str]:
    """Return the names by which a key map can replace keys."""
    from giblet_tui.dashboard.app import DashboardApp
    from giblet_tui.dashboard.screens.main import MainScreen

    owners = (DashboardApp, MainScreen, PaneGrid, RunList, LogTail)
    bindings = (binding for owner in owners for binding in owner.BINDINGS)
    return frozenset(binding.id for binding in bindings if isinstance(binding, Binding) and binding.id)
