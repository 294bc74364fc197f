"""Boxes with a tick that is there or not. Textual draws the same X for both, in colours that not every terminal has."""

from __future__ import annotations

from textual.strip import Strip
from textual.widgets import Checkbox, SelectionList

EMPTY = " "


class TickBox(Checkbox):
    """A box that is empty unless it is ticked."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        """Return what is drawn between the edges of the box."""
        return Checkbox.BUTTON_INNER if self.value else EMPTY


class TickList(SelectionList[int]):
    """A list whose boxes are empty unless their row is chosen."""

    def render_line(self, y: int) -> Strip:
        strip = super().render_line(y)
        index = int(self.scroll_offset.y) + y
        if index >= self.option_count or self.get_option_at_index(index).value in self.selected:
            return strip
        edge, mark, *rest = strip
        return Strip([edge, mark._replace(text=EMPTY), *rest])
