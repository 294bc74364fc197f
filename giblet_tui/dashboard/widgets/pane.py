"""A pane of the main screen: a heading in its top rule and lines cut to its size, for whatever size it is given."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from giblet_tui.dashboard.palette import MUTED
from giblet_tui.dashboard.text import line, page
from giblet_tui.dashboard.view import RunView


class Pane(Widget, can_focus=True):
    """Draws one `RunView`. A pane one or two rows high has no rule and says all in those rows.

    It is painted anew only when what it says has changed: most records change few panes.
    """

    view: reactive[RunView | None] = reactive(None, repaint=False)
    _said = Content()
    _said_in: Size | None = None
    _headed = Content()

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
        if self._said_in != self.content_size:
            self._said = self._page()
        return self._said

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self.renew())

    def on_resize(self) -> None:
        self.renew()

    def watch_view(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Say anew what is to be said now; time alone may have changed it."""
        self.head()
        said = self._page()
        if not said.is_same(self._said):
            self._said = said
            self.refresh()

    def head(self) -> None:
        """Set the top rule anew, if what stands in it has changed."""
        heading = self.heading()
        if not heading.is_same(self._headed):
            self._headed = heading
            self.border_title = heading

    def _page(self) -> Content:
        self._said_in = self.content_size
        width, height = self.content_size
        return page(self.lines(width, height) if self.view is not None else self.empty(), width, height)
