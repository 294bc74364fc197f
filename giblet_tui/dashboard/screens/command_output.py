"""What a verb printed, to be read: scrolls, and closes again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED


class CommandOutputScreen(ModalScreen[None]):
    """The command on top, so that one learns to type it; below, its lines once they are there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("y", "copy", "copy the command"),
    ]

    class Told(Message):
        """The verb has ended; these are its lines."""

        def __init__(self, lines: Sequence[str]) -> None:
            super().__init__()
            self.lines = lines

    def __init__(self, command: str, ask: Callable[[], Sequence[str]]) -> None:
        super().__init__()
        self.command = command
        self._ask = ask

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="reading"):
            yield Static(id="reading-lines", markup=False)

    def on_mount(self) -> None:
        scroll = self.query_one("#reading")
        scroll.border_title = join_parts((f"$ {self.command}", "bold"))
        scroll.border_subtitle = join_parts(("esc back   y copy the command", MUTED))
        self.query_one("#reading-lines", Static).update(join_parts(("asking", MUTED)))
        scroll.focus()
        self.run_worker(lambda: self.post_message(self.Told(self._ask())), thread=True)

    def on_command_output_screen_told(self, message: Told) -> None:
        self.query_one("#reading-lines", Static).update(Content("\n").join([join_parts(one) for one in message.lines]))

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.notify("copied", timeout=2)
