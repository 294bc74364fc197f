"""A pane of the main screen: a heading in its top rule and lines cut to its size, for whatever size it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from textual.content import Content
from textual.geometry import Region, Size
from textual.reactive import reactive
from textual.theme import Theme
from textual.widget import Widget

from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import clip_lines, join_parts
from giblet_tui.dashboard.style.styles import MUTED

TALLEST = 200


class Pane(Widget, can_focus=True):
    """Draws one `RunView`. A pane in its bare form has no heading and uses all of its rows.

    It is painted again only where its content has changed: most records change few panes, and of those few rows.
    """

    KEYS: ClassVar[tuple[str, ...]] = ()
    """Keys that the bottom line names while this pane has the focus."""
    TICKS: ClassVar[bool] = False
    """Whether the content changes by time alone, so that it is brought up to date every second."""

    view: reactive[RunView | None] = reactive(None, repaint=False)
    _content = Content()
    _content_for: Size | None = None
    _heading = Content()
    _heading_only = False
    _is_dark = True

    def title(self) -> Content:
        """Return the heading."""
        raise NotImplementedError

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        """Return the content, most important lines first: what does not fit below is cut."""
        raise NotImplementedError

    def empty(self) -> list[Content]:
        """Return the content while there is no run."""
        return [join_parts(("no run chosen", MUTED))]

    def size_hint(self, width: int) -> SizeHint | None:
        """Return how much room the content can use in a column of `width` cells; None for the table's size."""
        return None

    @property
    def line_colors(self) -> Mapping[str, str]:
        """Return the colours of the present theme by the name of their use."""
        components = self.view.components if self.view is not None else ()
        return styles.line_colors(components, dark=self._is_dark)

    def render(self) -> Content:
        if self._content_for != self.content_size:
            self._content = self._clipped_content()
        return self._content

    def on_mount(self) -> None:
        self._is_dark = self.app.current_theme.dark
        self.app.theme_changed_signal.subscribe(self, self._on_theme_changed)

    def _on_theme_changed(self, theme: Theme) -> None:
        self._is_dark = theme.dark
        self.update_content()
        self.refresh()

    def on_resize(self) -> None:
        self.update_content()

    def on_show(self) -> None:
        """Bring up to date what was not drawn while the pane was hidden."""
        self.update_content()

    def watch_view(self) -> None:
        self.update_content()

    def update_content(self) -> None:
        """Bring heading and content up to date; time alone may have changed them. A hidden pane costs nothing."""
        if not self.display:
            self._content_for = None
            return
        self.update_title()
        content = self._clipped_content()
        if not content.is_same(self._content):
            self._content = content
            self.refresh()

    def update_title(self) -> None:
        """Bring the heading up to date."""
        heading = self.title()
        if not heading.is_same(self._heading):
            self._heading = heading
            self._heading_only = self.is_mounted
            self.border_title = heading
            self._heading_only = False

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Refresh as any widget does, but let a new heading repaint its own row only."""
        if self._heading_only and not regions:
            regions = (Region(0, -1, self.size.width, 1),)
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def content_rows(self, width: int) -> int:
        """Return how many rows the whole content takes in `width` cells."""
        return len(self.render_lines_for(width, TALLEST) if self.view is not None else self.empty())

    def _clipped_content(self) -> Content:
        self._content_for = self.content_size
        width, height = self.content_size
        lines = self.render_lines_for(width, height) if self.view is not None else self.empty()
        return clip_lines(lines, width, height)
