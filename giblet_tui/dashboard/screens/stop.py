"""The dialogs before a stop: Cancel has the focus; a production run asks for its name; several runs are listed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from giblet_tui.dashboard.model.interfaces import StaleRunChoice
from giblet_tui.dashboard.model.run_status import epoch_words
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.monitor.snapshots import RunSnapshot, nodes_of

DIALOG_BINDINGS: list[BindingType] = [
    Binding("escape", "dismiss(False)", "cancel"),
    Binding("left", "app.focus_previous", show=False),
    Binding("right", "app.focus_next", show=False),
]


class StopDialog(ModalScreen[bool]):
    """Returns True only if the user pressed Stop, having typed the name where it is asked for."""

    BINDINGS: ClassVar[list[BindingType]] = DIALOG_BINDINGS

    def __init__(self, run: RunSnapshot) -> None:
        super().__init__()
        self.run_snapshot = run
        self.needs_name = run.config is not None and run.config.stage == "production"

    def compose(self) -> ComposeResult:
        run = self.run_snapshot
        with Vertical(classes="dialog"):
            yield Static(join_parts((f"Stop {run.run.name} on {run.run.node}?", "bold")))
            yield Static(
                join_parts(
                    f"Epoch {epoch_words(run) or '–'}. The run saves a checkpoint after the current step and ends. "
                    f"After {run.run.grace_s:.0f} s giblet ends it by force and proves that nothing is left of it."
                )
            )
            yield Static(join_parts(("In a shell: ", MUTED), f"giblet stop {run.run.run_id}"))
            if self.needs_name:
                yield Static(join_parts(("This is a production run. Type its name to stop it:", "$warning")))
                yield Input(placeholder=run.run.name, id="stop-name")
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Stop", id="stop", variant="error", disabled=self.needs_name)

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#stop", Button).disabled = event.value != self.run_snapshot.run.name

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "stop")


class RunListDialog(ModalScreen[bool]):
    """Lists runs that one action is for; returns True only if the user pressed its button.

    Args:
        title: the question.
        rows: (run and node, what is to know about it) of each run.
        command: what does the same in a shell.
        button: word on the button.
        phrase: what must be typed first, because a production run is among them; empty for nothing.
    """

    BINDINGS: ClassVar[list[BindingType]] = DIALOG_BINDINGS

    def __init__(
        self, title: str, rows: Sequence[tuple[str, str]], command: str, button: str = "Stop", phrase: str = ""
    ) -> None:
        super().__init__()
        self._heading, self._rows, self._command, self._button, self._phrase = title, rows, command, button, phrase

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(join_parts((self._heading, "bold")))
            with VerticalScroll(id="listed-runs"):
                for name, words in self._rows:
                    yield Static(join_parts((name, "bold"), f": {words}"))
            yield Static(join_parts(("In a shell: ", MUTED), self._command))
            if self._phrase:
                yield Static(join_parts((f"Production runs are among them. Type “{self._phrase}”:", "$warning")))
                yield Input(placeholder=self._phrase, id="stop-name")
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button(self._button, id="stop", variant="error", disabled=bool(self._phrase))

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#stop", Button).disabled = event.value.strip() != self._phrase

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "stop")


def stale_dialog(stale: Sequence[StaleRunChoice]) -> RunListDialog:
    """Return the dialog that lists stale runs with the reason for each."""
    title = f"Stop {'this stale run' if len(stale) == 1 else f'these {len(stale)} stale runs'}?"
    return RunListDialog(title, [(f"{run.run_id} on {run.node}", run.why) for run in stale], "giblet stop --stale")


def marked_dialog(runs: Sequence[RunSnapshot]) -> RunListDialog:
    """Return the dialog that lists the marked runs that are to be stopped."""
    rows = [
        (f"{run.run.run_id} on {','.join(nodes_of(run))}", f"epoch {epoch_words(run) or '–'}, {run.health.sentence}")
        for run in runs
    ]
    is_production = any(run.config is not None and run.config.stage == "production" for run in runs)
    command = shlex.join(("giblet", "stop", *(run.run.run_id for run in runs)))
    phrase = f"stop {len(runs)} runs" if is_production else ""
    return RunListDialog(f"Stop these {len(runs)} marked runs?", rows, command, phrase=phrase)
