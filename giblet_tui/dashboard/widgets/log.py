"""The log pane: the end of the run's log; it follows new lines, scrolls back, searches and filters."""

from __future__ import annotations

import re
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from giblet_tui.dashboard.model.log_filter import LogFilter, Severity, severities_of
from giblet_tui.dashboard.model.log_steps import line_at, steps_of
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import LONGEST, escape_line, join_parts
from giblet_tui.dashboard.style.themes import palette_of

GLANCE_ROWS = 2
"""With so few rows there is no heading to say that the log does not follow, so it always does."""


class LogTail(ScrollView, can_focus=True):
    """The lines as the run wrote them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("g", "scroll_home", show=False),
        Binding("G", "scroll_end", show=False),
        Binding("n", "find(1)", "next match", show=False, id="next_match"),
        Binding("N", "find(-1)", "previous match", show=False, id="previous_match"),
        Binding("e", "first_error", "first error", show=False, id="first_error"),
        Binding("w", "cycle_severity", "all, warnings, errors", show=False, id="severity"),
        Binding("r", "next_rank", "all ranks, one rank", show=False, id="rank"),
        Binding("enter", "to_charts", "crosshair at this line", show=False, id="to_charts"),
    ]
    KEYS: ClassVar[tuple[str, ...]] = (
        "/ search", "e first error", "w errors only", "r rank", "← → long lines", "enter in charts",
    )  # fmt: skip

    class Pointed(Message):
        """The user asks where in training a line was written."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step
            """As the log itself states it."""

    log_lines: reactive[tuple[str, ...]] = reactive((), layout=False)
    follow: reactive[bool] = reactive(True)
    """Whether the newest line stays in sight."""
    needle: reactive[str] = reactive("")
    """What is searched for; empty for nothing."""
    filter: reactive[LogFilter] = reactive(LogFilter())

    def __init__(self) -> None:
        super().__init__(id="log")
        self._match = -1
        self._matching_lines: list[str] = []
        self._severities: list[Severity] = []
        self._crosshair_step: int | None = None
        self._resume_follow = False
        self.steps_per_epoch = 1
        self.has_curves = True
        """Whether the run has recorded anything besides its log."""

    def size_hint(self, width: int) -> SizeHint:
        """Ask for a few rows; for all that are left over while the run has nothing but its log."""
        return SizeHint(20, (1, 2, 4, 7), 1, grows=0 if self.has_curves else 1)

    def watch_log_lines(self) -> None:
        self._apply_filter()

    def watch_filter(self) -> None:
        self._match = -1
        self._apply_filter()

    def _apply_filter(self) -> None:
        """Show the lines that pass the filter."""
        severities, places = severities_of(self.log_lines), self.filter.matching(self.log_lines)
        self._matching_lines = [self.log_lines[i] for i in places]
        self._severities = [severities[i] for i in places]
        longest = max(map(len, self._matching_lines), default=0)
        self.virtual_size = Size(min(LONGEST, longest), len(self._matching_lines))
        self._update_title()
        self.refresh()
        if self.follow:
            self._to_end()
        elif self._crosshair_step is not None:
            self._match = self._line_at(self._crosshair_step)

    def show_step(self, step: int | None) -> None:
        """Show the line that was written at the crosshair's step; None: return to where the reader was."""
        self._crosshair_step = step
        self._update_title()
        if step is None:
            self._restore_follow()
            return
        index = self._line_at(step)
        if index >= 0 and (self._match < 0 or self._steps()[self._match] != self._steps()[index]):
            self._leave_follow()
            self._match = index
            self._show(index)

    @property
    def has_left_end(self) -> bool:
        """Return True if a search or a jump left the end of the log, which esc returns to."""
        return bool(self.needle) or self._resume_follow

    def end_search(self) -> None:
        """Forget what was searched for, and follow again if the log did so before."""
        self.needle = ""
        self._restore_follow()

    def action_to_charts(self) -> None:
        """Set the crosshair where the marked line was written, or else the topmost line in sight."""
        index = self._match if self._match >= 0 else int(self.scroll_offset.y)
        step = self._steps()[index] if index < len(self._matching_lines) else None
        if step is None:
            self.app.bell()
            self.notify("Neither this line nor one before it names the step at which it was written.", timeout=3)
            return
        self._match = index
        self.refresh()
        self.post_message(self.Pointed(step))

    def on_click(self, event: events.Click) -> None:
        """Set the crosshair where the clicked line was written."""
        offset = event.get_content_offset(self)
        index = int(self.scroll_offset.y) + offset.y if offset is not None else len(self._matching_lines)
        if index < len(self._matching_lines):
            self.follow = False
            self._match = index
            self.action_to_charts()

    def on_resize(self) -> None:
        if self.content_size.height <= GLANCE_ROWS:
            self.follow = True
        if self.follow:
            self._to_end()

    def watch_follow(self) -> None:
        self._update_title()
        if self.follow:
            self._resume_follow = False
            self._to_end()

    def watch_needle(self) -> None:
        self._match = -1
        self._update_title()
        self.refresh()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        if new < old and new < self.max_scroll_y:
            self.follow = False
        elif new >= self.max_scroll_y:
            self.follow = True

    def render_line(self, y: int) -> Strip:
        scroll_x, top = self.scroll_offset
        width = self.scrollable_content_region.width
        style = self.rich_style
        index = top + y
        if not self._matching_lines and y == 0:
            text = f"no line of {self.filter.words}" if self.log_lines else "the run has written nothing yet"
            return Strip([Segment(text, style + Style(dim=True))]).adjust_cell_length(width, style)
        if index >= len(self._matching_lines):
            return Strip.blank(width, style)
        text = escape_line(self._matching_lines[index])
        strip = Strip(self._segments(text, style + self._line_color(self._severities[index]), index))
        return _marked_where_cut(strip, int(scroll_x), width, style)

    def action_find(self, direction: int) -> None:
        """Show the next or previous line that contains what is searched for."""
        hits = [i for i, line in enumerate(self._matching_lines) if self.needle and self.needle.lower() in line.lower()]
        if not hits:
            self.app.bell()
            return
        if self._match < 0:
            self._match = hits[-1] if direction < 0 else hits[0]
        else:
            beyond = [i for i in hits if (i - self._match) * direction > 0]
            self._match = (beyond or hits)[0 if direction > 0 else -1]
        self._leave_follow()
        self._show(self._match)

    def action_cycle_severity(self) -> None:
        """Show warnings and errors only, then errors only, then all lines."""
        self.filter = self.filter.next_severity()

    def action_next_rank(self) -> None:
        """Show the lines of one rank after the other, then all."""
        if (next_filter := self.filter.next_rank(self.log_lines)) == self.filter:
            self.app.bell()
        self.filter = next_filter

    def action_first_error(self) -> None:
        """Show the first line with an error."""
        first = next((i for i, severity in enumerate(self._severities) if severity == "error"), None)
        if first is None:
            self.app.bell()
            return
        self._match = first
        self._leave_follow()
        self._show(first)

    def _steps(self) -> list[int | None]:
        return steps_of(self._matching_lines, self.steps_per_epoch)

    def _line_at(self, step: int) -> int:
        index = line_at(self._steps(), step)
        return -1 if index is None else index

    def _leave_follow(self) -> None:
        self._resume_follow = self._resume_follow or self.follow

    def _restore_follow(self) -> None:
        self.follow, self._resume_follow = self.follow or self._resume_follow, False

    def _show(self, index: int) -> None:
        self.follow = False
        self.scroll_to(y=max(0, index - self.content_size.height // 2), animate=False)
        self._update_title()
        self.refresh()

    def _to_end(self) -> None:
        self.scroll_to(y=self.max_scroll_y, animate=False, immediate=True, force=True)

    def _update_title(self) -> None:
        words = self._title_words()
        passing = f"  only {self.filter.words}: {len(self._matching_lines)} of {len(self.log_lines)} lines"
        parts = [("log  ", "bold"), (words, styles.MUTED), (passing if self.filter.words else "", "$warning")]
        title: Content = join_parts(*parts)
        self.border_title = title

    def _title_words(self) -> str:
        if self.needle:
            n_hits = sum(self.needle.lower() in line.lower() for line in self._matching_lines)
            return f"“{escape_line(self.needle)}” in {n_hits} lines, n next, N previous, esc ends"
        if self._crosshair_step is not None:
            step = self._crosshair_step
            return f"at step {step:,}" if self._line_at(step) >= 0 else f"no line here is as old as step {step:,}"
        return "following" if self.follow else "paused, f: follow"

    def _line_color(self, severity: Severity) -> Style:
        ink = styles.INK[palette_of(self.app.current_theme)]
        return {"error": Style(color=ink["bad"]), "warning": Style(color=ink["other"]), "info": Style()}[severity]

    def _segments(self, text: str, style: Style, index: int) -> list[Segment]:
        if not self.needle:
            marked = index == self._match and not self.follow
            return [Segment(text, style + Style(reverse=True) if marked else style)]
        hit = style + Style(reverse=True, bold=index == self._match)
        pieces = re.split(f"({re.escape(self.needle)})", text, flags=re.IGNORECASE)
        return [Segment(piece, hit if odd % 2 else style) for odd, piece in enumerate(pieces) if piece]


def _marked_where_cut(strip: Strip, first: int, width: int, style: Style) -> Strip:
    """Return `width` cells of a line from a cell on, with an ellipsis at each end behind which there is more.

    Without the marks, a number that is cut would read as another number.
    """
    mark = Strip([Segment("…", style + Style(dim=True))])
    has_more_left, has_more_right = first > 0, strip.cell_length > first + width
    middle = strip.crop(first + has_more_left, first + width - has_more_right)
    pieces = [*[mark] * has_more_left, middle, *[mark] * has_more_right]
    return Strip.join(pieces).adjust_cell_length(width, style)
