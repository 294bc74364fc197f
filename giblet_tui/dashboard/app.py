"""The application: holds the fleet, takes snapshots from the source's threads, and carries out what keys may cause."""

from __future__ import annotations

import gc
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from textual.actions import ActionParseResult
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from giblet_tui.dashboard.model.attempt import error_sentence
from giblet_tui.dashboard.model.interfaces import (
    DashboardActions,
    SnapshotSource,
)
from giblet_tui.dashboard.model.judgement import Judgement, JudgementCache
from giblet_tui.dashboard.model.messages import NodeObserved
from giblet_tui.dashboard.model.run_view import merge_snapshot
from giblet_tui.dashboard.palette import system_commands
from giblet_tui.dashboard.run_actions import RunActions
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.help import HelpScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.settings import Settings, check_theme
from giblet_tui.dashboard.style import themes
from giblet_tui.dashboard.style.plain_glyphs import PlainGlyphs
from giblet_tui.dashboard.widgets.chart_group import CHART_BINDINGS
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from giblet_tui.reporting.compare import many_lines


class DashboardApp(RunActions):
    """The whole screen over one fleet."""

    TITLE = "giblet"
    CSS_PATH = "dashboard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "help", id="help"),
        Binding("ctrl+n", "launch", "launch a run (dry run first)", id="launch"),
        Binding("c", "compare", "compare with the marked run, or all marked runs", id="compare"),
        Binding("S", "stop_run", "stop the run, or the marked runs (asks first)", id="stop"),
        Binding("X", "stop_stale", "stop stale runs (lists them, asks first)", id="stop_stale"),
        Binding("W", "show_verb('why')", "why the run, or each marked one, does badly", id="why"),
        Binding("R", "show_verb('report')", "report of the run, or of each marked one", id="report"),
        Binding("E", "show_verb('evaluate')", "evaluate the run, or the marked runs, on test data", id="evaluate"),
        Binding("A", "answer", "acknowledge the run's alerts, for everyone", id="acknowledge"),
        Binding("Z", "answer(True)", "snooze the run's alerts for 8 h", id="snooze"),
        Binding("T", "next_theme", "next theme", id="theme"),
        Binding("q", "quit", "quit; no run is touched", id="quit"),
    ]

    def __init__(
        self,
        source: SnapshotSource,
        actions: DashboardActions | None,
        initial: Fleet,
        *,
        readonly: bool = False,
        clock: Callable[[], float] = time.time,
        selected_run_id: str | None = None,
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
            selected_run_id: The run that is shown first.
            settings: Theme and key map of the user.
            plain: Whether the terminal gets ASCII only.

        Raises ConfigError if there is no theme of the name in the settings.
        """
        super().__init__()
        settings = settings or Settings()
        self.animation_level = "none"
        for theme in themes.OWN_THEMES:
            self.register_theme(theme)
        check_theme(settings.theme, self.available_themes)
        self.theme = settings.theme or themes.DARK_THEME.name
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
        self._main.chosen = selected_run_id

    def get_default_screen(self) -> Screen[None]:
        return self._main

    def on_mount(self) -> None:
        self._main.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Start observing after the first screen; collect garbage again, except what lives as long as the program."""
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
        self.push_screen(HelpScreen(sections, self._main.components, self._main.focused_pane))

    def action_compare(self) -> None:
        """Compare the chosen run with a marked one, or two marked runs, the older first; more runs as a table."""
        marked_ids = self._main.marked
        run_ids = marked_ids if len(marked_ids) == 2 else marked_ids | ({self._main.chosen} - {None})
        runs = sorted((r for r in self.fleet.runs() if r.run.run_id in run_ids), key=lambda r: r.run.launched_at)
        if len(runs) == 2:
            self.push_screen(CompareScreen(self.fleet, *(run.run.run_id for run in runs)))
        elif len(runs) > 2:
            command = shlex.join(("giblet", "compare", *(run.run.run_id for run in runs)))

            def show_table(show: Callable[[str], None], end: threading.Event) -> None:
                for line in many_lines(runs):
                    show(line)

            self.push_screen(CommandOutputScreen(command, show_table))
        else:
            self.notify("Mark one or two runs with space in the list of runs; then press c.", severity="warning")

    def action_next_theme(self) -> None:
        place = themes.ORDER.index(self.theme) if self.theme in themes.ORDER else -1
        self.theme = themes.ORDER[(place + 1) % len(themes.ORDER)]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Return every key of every pane, then every command of giblet for the run and node that are shown."""
        return system_commands(self, self._main)
