"""A pane of the main screen: a heading in its top rule and lines cut to its size, for whatever size it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from textual.content import Content
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.theme import Theme
from textual.widget import Widget

from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import line, page
from giblet_tui.dashboard.style.styles import MUTED


class Pane(Widget, can_focus=True):
    """Draws one `RunView`. A pane one or two rows high has no rule and says all in those rows.

    It is painted anew only where what it says has changed: most records change few panes, and of those few rows.
    """

    KEYS: ClassVar[tuple[str, ...]] = ()
    """What the bottom line says of keys while this pane has the focus."""

    view: reactive[RunView | None] = reactive(None, repaint=False)
    _said = Content()
    _said_in: Size | None = None
    _headed = Content()
    _heading_only = False
    inks: Mapping[str, str] = styles.styles(dark=True)
    """The colours of the present theme by the name of their use."""

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
        self.inks = styles.styles(dark=self.app.current_theme.dark)
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def _theme_changed(self, theme: Theme) -> None:
        self.inks = styles.styles(dark=theme.dark)
        self.renew()
        self.refresh()

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
            self._heading_only = self.is_mounted
            self.border_title = heading
            self._heading_only = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """As any widget's, but a new heading repaints its own row and no other."""
        if self._heading_only and not regions:
            regions = (Region(0, -1, self.size.width, 1),)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _page(self) -> Content:
        self._said_in = self.content_size
        width, height = self.content_size
        return page(self.lines(width, height) if self.view is not None else self.empty(), width, height)
