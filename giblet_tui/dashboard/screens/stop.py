"""The stop dialog: Cancel has the focus, and a production run wants its name typed."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from giblet_tui.dashboard.model.run_view import epoch_words
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.monitor.snapshots import RunSnapshot


class StopDialog(ModalScreen[bool]):
    """Answers True only when the user pressed Stop, having typed the name where it is asked for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(False)", "cancel"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, run: RunSnapshot) -> None:
        super().__init__()
        self.run_snapshot = run
        self.name_wanted = run.config is not None and run.config.stage == "production"

    def compose(self) -> ComposeResult:
        run = self.run_snapshot
        with Vertical(id="stop-dialog"):
            yield Static(join_parts((f"Stop {run.run.name} on {run.run.node}?", "bold")))
            yield Static(
                join_parts(f"Epoch {epoch_words(run) or '–'}. It saves a checkpoint at the next step, then ends;")
            )
            yield Static(join_parts(f"after {run.run.grace_s:.0f} s it is ended by force, and proved to be gone."))
            yield Static(join_parts(("In a shell: ", MUTED), f"giblet stop {run.run.run_id}"))
            if self.name_wanted:
                yield Static(join_parts(("A production run. Type its name to stop it:", "$warning")))
                yield Input(placeholder=run.run.name, id="stop-name")
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button("Stop", id="stop", variant="error", disabled=self.name_wanted)

    def on_mount(self) -> None:
        self.query_one("#cancel").focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.query_one("#stop", Button).disabled = event.value != self.run_snapshot.run.name

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "stop")
