"""The end of the run's log: follows what is new, scrolls back, searches."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from giblet_tui.dashboard import palette
from giblet_tui.dashboard.text import LONGEST, harmless, line

ERROR = re.compile(r"error|traceback|exception|\bnan\b|killed|fatal|cannot|failed", re.IGNORECASE)
WARNING = re.compile(r"warn", re.IGNORECASE)


class LogTail(ScrollView, can_focus=True):
    """Lines as the run wrote them. follow: stay at the newest line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
        Binding("n", "find(1)", "next match", show=False),
        Binding("N", "find(-1)", "previous match", show=False),
        Binding("e", "first_error", "first error", show=False),
    ]

    log_lines: reactive[tuple[str, ...]] = reactive((), layout=False)
    follow: reactive[bool] = reactive(True)
    needle: reactive[str] = reactive("")

    def __init__(self) -> None:
        super().__init__(id="log")
        self._match = -1

    def watch_log_lines(self, old: tuple[str, ...], new: tuple[str, ...]) -> None:
        self.virtual_size = Size(min(LONGEST, max((len(one) for one in new), default=0)), len(new))
        self._title()
        self.refresh()
        if self.follow:
            self._to_end()

    def on_resize(self) -> None:
        if self.follow:
            self._to_end()

    def watch_follow(self) -> None:
        self._title()
        if self.follow:
            self._to_end()

    def watch_needle(self) -> None:
        self._match = -1
        self._title()
        self.refresh()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if new < old and new < self.max_scroll_y:
            self.follow = False
        elif new >= self.max_scroll_y:
            self.follow = True

    def render_line(self, y: int) -> Strip:
        left, top = self.scroll_offset
        width = self.content_size.width
        style = self.rich_style
        index = top + y
        if not self.log_lines and y == 0:
            return Strip([Segment("the run has written nothing yet", style + Style(dim=True))]).adjust_cell_length(
                width, style
            )
        if index >= len(self.log_lines):
            return Strip.blank(width, style)
        text = harmless(self.log_lines[index])
        strip = Strip(self._segments(text, style + self._ink(text), index))
        return strip.crop(left, left + width).adjust_cell_length(width, style)

    def action_find(self, by: int) -> None:
        """Show the next or previous line that holds what was searched for."""
        hits = [i for i, one in enumerate(self.log_lines) if self.needle and self.needle.lower() in one.lower()]
        if not hits:
            self.app.bell()
            return
        if self._match < 0:
            self._match = hits[-1] if by < 0 else hits[0]
        else:
            beyond = [i for i in hits if (i - self._match) * by > 0]
            self._match = (beyond or hits)[0 if by > 0 else -1]
        self._show(self._match)

    def action_first_error(self) -> None:
        """Show the first line that speaks of an error."""
        first = next((i for i, one in enumerate(self.log_lines) if ERROR.search(one)), None)
        if first is None:
            self.app.bell()
            return
        self._match = first
        self._show(first)

    def _show(self, index: int) -> None:
        self.follow = False
        self.scroll_to(y=max(0, index - self.content_size.height // 2), animate=False)
        self._title()
        self.refresh()

    def _to_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)

    def _title(self) -> None:
        words = "follows" if self.follow else "f follows again"
        if self.needle:
            hits = sum(self.needle.lower() in one.lower() for one in self.log_lines)
            words = f"“{harmless(self.needle)}” in {hits} lines, n next, N previous"
        self.border_title = line(("log  ", "bold"), (words, palette.MUTED))

    def _ink(self, text: str) -> Style:
        inks = palette.INK[self.app.current_theme.dark]
        if ERROR.search(text):
            return Style(color=inks["bad"])
        return Style(color=inks["other"]) if WARNING.search(text) else Style()

    def _segments(self, text: str, style: Style, index: int) -> list[Segment]:
        if not self.needle:
            return [Segment(text, style)]
        found = style + Style(reverse=True, bold=index == self._match)
        parts = re.split(f"({re.escape(self.needle)})", text, flags=re.IGNORECASE)
        return [Segment(part, found if odd % 2 else style) for odd, part in enumerate(parts) if part]
