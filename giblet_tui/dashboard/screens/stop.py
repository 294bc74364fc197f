"""The stop dialogs: Cancel has the focus; a production run asks for its name; stale runs are listed with reasons."""

from __future__ import annotations

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
from giblet_tui.monitor.snapshots import RunSnapshot

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


class StopStaleDialog(ModalScreen[bool]):
    """Lists the stale runs; returns True only if the user pressed Stop."""

    BINDINGS: ClassVar[list[BindingType]] = DIALOG_BINDINGS

    def __init__(self, stale: Sequence[StaleRunChoice]) -> None:
        super().__init__()
        self.stale = stale

    def compose(self) -> ComposeResult:
        count = len(self.stale)
        with Vertical(classes="dialog"):
            title = f"Stop {'this stale run' if count == 1 else f'these {count} stale runs'}?"
            yield Static(join_parts((title, "bold")))
            with VerticalScroll(id="stale-runs"):
                for run in self.stale:
                    yield Static(join_parts((f"{run.run_id} on {run.node}", "bold"), f": {run.why}"))
            yield Static(join_parts(("In a shell: ", MUTED), "giblet stop --stale"))
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Stop", id="stop", variant="error")

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "stop")
