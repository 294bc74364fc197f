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
from giblet_tui.dashboard.style.safe_text import clip_lines, join_parts
from giblet_tui.dashboard.style.styles import MUTED


class Pane(Widget, can_focus=True):
    """Draws one `RunView`. A pane one or two rows high has no rule and says all in those rows.

    It is painted anew only where what it says has changed: most records change few panes, and of those few rows.
    """

    KEYS: ClassVar[tuple[str, ...]] = ()
    """What the bottom line says of keys while this pane has the focus."""

    view: reactive[RunView | None] = reactive(None, repaint=False)
    _shown_content = Content()
    _said_in: Size | None = None
    _headed = Content()
    _heading_only = False
    line_colors: Mapping[str, str] = styles.styles(dark=True)
    """The colours of the present theme by the name of their use."""

    def title(self) -> Content:
        """What stands in the top rule."""
        raise NotImplementedError

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        """The content, best first: what does not fit below is cut."""
        raise NotImplementedError

    def empty(self) -> list[Content]:
        """What to say while there is no run."""
        return [join_parts(("no run chosen", MUTED))]

    def render(self) -> Content:
        if self._said_in != self.content_size:
            self._shown_content = self._page()
        return self._shown_content

    def on_mount(self) -> None:
        self.line_colors = styles.styles(dark=self.app.current_theme.dark)
        self.app.theme_changed_signal.subscribe(self, self._theme_changed)

    def _theme_changed(self, theme: Theme) -> None:
        self.line_colors = styles.styles(dark=theme.dark)
        self.update_content()
        self.refresh()

    def on_resize(self) -> None:
        self.update_content()

    def watch_view(self) -> None:
        self.update_content()

    def update_content(self) -> None:
        """Say anew what is to be said now; time alone may have changed it."""
        self.update_title()
        said = self._page()
        if not said.is_same(self._shown_content):
            self._shown_content = said
            self.refresh()

    def update_title(self) -> None:
        """Set the top rule anew, if what stands in it has changed."""
        heading = self.title()
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
        return clip_lines(
            self.render_lines_for(width, height) if self.view is not None else self.empty(), width, height
        )
