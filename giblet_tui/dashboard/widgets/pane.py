"""A pane of the main screen: a heading in its top rule and lines cut to its size, for whatever size it is given."""

from __future__ import annotations

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from giblet_tui.dashboard.palette import MUTED
from giblet_tui.dashboard.text import line, page
from giblet_tui.dashboard.view import RunView


class Pane(Widget, can_focus=True):
    """Draws one `RunView`. A pane one or two rows high has no rule and says all in those rows."""

    view: reactive[RunView | None] = reactive(None)

    def heading(self) -> Content:
        """What stands in the top rule."""
        raise NotImplementedError

    def lines(self, width: int, height: int) -> list[Content]:
        """The content, best first: what does not fit below is cut."""
        raise NotImplementedError

    def empty(self) -> list[Content]:
        """What to say while there is no run."""
        return [line(("no run chosen", MUTED))]

    def render(self) -> Content:
        width, height = self.content_size
        return page(self.lines(width, height) if self.view is not None else self.empty(), width, height)

    def on_resize(self) -> None:
        self.watch_view()

    def watch_view(self) -> None:
        self.border_title = self.heading()
