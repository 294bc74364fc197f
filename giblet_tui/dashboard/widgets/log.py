"""The end of the run's log: follows what is new, scrolls back, searches."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from giblet_tui.dashboard.model.log_filter import Grade, LogFilter, grades
from giblet_tui.dashboard.model.log_steps import line_at, steps_of
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import LONGEST, escape_line, join_parts


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
        Binding("w", "cycle_level", "all, warnings, errors", show=False),
        Binding("r", "next_rank", "all ranks, one rank", show=False),
        Binding("enter", "to_charts", "crosshair at this line", show=False),
    ]
    KEYS: ClassVar[tuple[str, ...]] = ("/ search", "e first error", "w errors only", "r rank", "enter in charts")

    class Pointed(Message):
        """The user asks where in training a line was written. step: as the log itself says."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    log_lines: reactive[tuple[str, ...]] = reactive((), layout=False)
    follow: reactive[bool] = reactive(True)
    needle: reactive[str] = reactive("")
    filter: reactive[LogFilter] = reactive(LogFilter())

    def __init__(self) -> None:
        super().__init__(id="log")
        self._match = -1
        self._shown: list[str] = []
        self._grades: list[Grade] = []
        self._crossed: int | None = None
        self._led = False
        self.steps_per_epoch = 1

    def watch_log_lines(self) -> None:
        self._apply_filter()

    def watch_filter(self) -> None:
        self._match = -1
        self._apply_filter()

    def _apply_filter(self) -> None:
        """Show anew what passes the filter."""
        graded, places = grades(self.log_lines), self.filter.places(self.log_lines)
        self._shown = [self.log_lines[i] for i in places]
        self._grades = [graded[i] for i in places]
        self.virtual_size = Size(min(LONGEST, max(map(len, self._shown), default=0)), len(self._shown))
        self._title()
        self.refresh()
        if self.follow:
            self._to_end()
        elif self._crossed is not None:
            self._match = self._line_at(self._crossed)

    def show_step(self, step: int | None) -> None:
        """Show the line that was written at the crosshair's step; None: go back to where the reader was."""
        self._crossed = step
        self._title()
        if step is None:
            self.follow, self._led = self.follow or self._led, False
            return
        index = self._line_at(step)
        if index >= 0 and (self._match < 0 or self._steps()[self._match] != self._steps()[index]):
            self._led = self._led or self.follow
            self._match = index
            self._show(index)

    def action_to_charts(self) -> None:
        """Set the crosshair where the line was written that is marked, or else the topmost one that is seen."""
        index = self._match if self._match >= 0 else int(self.scroll_offset.y)
        step = self._steps()[index] if index < len(self._shown) else None
        if step is None:
            self.app.bell()
            self.notify("Neither this line nor one before it says at which step it was written.", timeout=3)
            return
        self._match = index
        self.refresh()
        self.post_message(self.Pointed(step))

    def on_click(self, event: events.Click) -> None:
        """A click on a line asks where it was written."""
        place = event.get_content_offset(self)
        index = int(self.scroll_offset.y) + place.y if place is not None else len(self._shown)
        if index < len(self._shown):
            self.follow = False
            self._match = index
            self.action_to_charts()

    def _steps(self) -> list[int | None]:
        return steps_of(self._shown, self.steps_per_epoch)

    def _line_at(self, step: int) -> int:
        found = line_at(self._steps(), step)
        return -1 if found is None else found

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
        if not self._shown and y == 0:
            said = f"no line of {self.filter.words}" if self.log_lines else "the run has written nothing yet"
            return Strip([Segment(said, style + Style(dim=True))]).adjust_cell_length(width, style)
        if index >= len(self._shown):
            return Strip.blank(width, style)
        text = escape_line(self._shown[index])
        strip = Strip(self._segments(text, style + self._line_color(self._grades[index]), index))
        return strip.crop(left, left + width).adjust_cell_length(width, style)

    def action_find(self, by: int) -> None:
        """Show the next or previous line that holds what was searched for."""
        hits = [i for i, one in enumerate(self._shown) if self.needle and self.needle.lower() in one.lower()]
        if not hits:
            self.app.bell()
            return
        if self._match < 0:
            self._match = hits[-1] if by < 0 else hits[0]
        else:
            beyond = [i for i in hits if (i - self._match) * by > 0]
            self._match = (beyond or hits)[0 if by > 0 else -1]
        self._show(self._match)

    def action_cycle_level(self) -> None:
        """Show warnings and errors only, then errors only, then all."""
        self.filter = self.filter.graver()

    def action_next_rank(self) -> None:
        """Show the lines of one rank after the other, then all."""
        if (other := self.filter.next_rank(self.log_lines)) == self.filter:
            self.app.bell()
        self.filter = other

    def action_first_error(self) -> None:
        """Show the first line that speaks of an error."""
        first = next((i for i, grade in enumerate(self._grades) if grade == "error"), None)
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
        if self._crossed is not None:
            kept = self._line_at(self._crossed) >= 0
            words = f"at step {self._crossed:,}" if kept else f"no line kept here is as old as step {self._crossed:,}"
        if self.needle:
            hits = sum(self.needle.lower() in one.lower() for one in self._shown)
            words = f"“{escape_line(self.needle)}” in {hits} lines, n next, N previous"
        sifted = (
            f"  only {self.filter.words}: {len(self._shown)} of {len(self.log_lines)} lines"
            if self.filter.words
            else ""
        )
        self.border_title = join_parts(("log  ", "bold"), (words, styles.MUTED), (sifted, "$warning"))

    def _line_color(self, grade: Grade) -> Style:
        inks = styles.INK[self.app.current_theme.dark]
        return {"error": Style(color=inks["bad"]), "warning": Style(color=inks["other"]), "info": Style()}[grade]

    def _segments(self, text: str, style: Style, index: int) -> list[Segment]:
        if not self.needle:
            marked = index == self._match and not self.follow
            return [Segment(text, style + Style(reverse=True) if marked else style)]
        found = style + Style(reverse=True, bold=index == self._match)
        parts = re.split(f"({re.escape(self.needle)})", text, flags=re.IGNORECASE)
        return [Segment(part, found if odd % 2 else style) for odd, part in enumerate(parts) if part]
