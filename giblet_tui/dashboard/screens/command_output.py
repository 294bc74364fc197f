"""The output of a command of giblet, line by line as it comes: scrolls, and closes again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Static

from giblet_tui.dashboard.model.attempt import attempt
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.style.styles import MUTED

KEPT_LINES = 5000


class CommandOutputScreen(ModalScreen[None]):
    """The command in the heading, so that one learns to type it; below it the lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "back"),
        Binding("y", "copy", "copy the command"),
    ]

    class LineRead(Message):
        """The command printed a line."""

        def __init__(self, line: str) -> None:
            super().__init__()
            self.line = line

    class Ended(Message):
        """The command ended, or could not be run."""

        def __init__(self, error: str) -> None:
            super().__init__()
            self.error = error

    def __init__(self, command: str, run: Callable[[Callable[[str], None], threading.Event], None]) -> None:
        super().__init__()
        self.command = command
        self.lines: list[str] = []
        self._run = run
        self._output_closed = threading.Event()

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="reading"):
            yield Static(id="reading-lines", markup=False)

    def on_mount(self) -> None:
        scroll = self.query_one("#reading")
        scroll.border_title = join_parts((f"$ {self.command}", "bold"))
        self._show("running")
        scroll.focus()
        self.run_worker(self._read, thread=True, exit_on_error=False)

    def on_unmount(self) -> None:
        """End the command: nobody reads its output any more."""
        self._output_closed.set()

    def on_command_output_screen_line_read(self, message: LineRead) -> None:
        self.lines = [*self.lines, message.line][-KEPT_LINES:]
        self._show("running")

    def on_command_output_screen_ended(self, message: Ended) -> None:
        if message.error:
            self.lines.append(message.error)
        elif not self.lines:
            self.lines.append("(no output)")
        self._show("ended")

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.command)
        self.notify("copied", timeout=2)

    def _read(self) -> None:
        outcome = attempt(lambda: self._run(lambda line: self._post(self.LineRead(line)), self._output_closed))
        self._post(self.Ended(outcome.error))

    def _post(self, message: Message) -> None:
        if not self._output_closed.is_set() or isinstance(message, self.Ended):
            self.post_message(message)

    def _show(self, state: str) -> None:
        self.query_one("#reading").border_subtitle = join_parts((f"{state}   esc back   y copy the command", MUTED))
        self.query_one("#reading-lines", Static).update(Content("\n").join([join_parts(line) for line in self.lines]))
