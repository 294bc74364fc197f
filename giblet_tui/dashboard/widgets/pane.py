"""A pane of the main screen: a heading in its top rule and lines cut to its size, for whatever size it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from textual.binding import Binding, BindingType
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
from giblet_tui.dashboard.style.themes import palette_of

TALLEST = 2000


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
    _palette: styles.Palette = "dark"

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
        return styles.line_colors(components, self._palette)

    def render(self) -> Content:
        if self._content_for != self.content_size:
            self._content = self._clipped_content()
        return self._content

    def on_mount(self) -> None:
        self._palette = palette_of(self.app.current_theme)
        self.app.theme_changed_signal.subscribe(self, self._on_theme_changed)

    def _on_theme_changed(self, theme: Theme) -> None:
        self._palette = palette_of(theme)
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

    def heading(self) -> Content:
        """Return what is written in the top rule."""
        return self.title()

    def update_title(self) -> None:
        """Bring the heading up to date."""
        heading = self.heading()
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


class ScrollingPane(Pane):
    """A pane whose content may be longer than its room; while it has the focus, its heading names the rows in sight."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "scroll_rows(1)", show=False),
        Binding("up,k", "scroll_rows(-1)", show=False),
        Binding("pagedown", "scroll_pages(1)", show=False),
        Binding("pageup", "scroll_pages(-1)", show=False),
        Binding("home,g", "scroll_rows(-10000)", show=False),
        Binding("end,G", "scroll_rows(10000)", show=False),
    ]
    _top = 0
    _run_id = ""

    def heading(self) -> Content:
        if not self.has_focus or self.view is None:
            return self.title()
        n_rows, height = self.content_rows(self.size.width), self.content_size.height
        if n_rows <= height:
            return self.title()
        words = f"  rows {self._top + 1}-{min(n_rows, self._top + height)} of {n_rows}, ↑ ↓"
        return self.title() + join_parts((words, MUTED))

    def watch_view(self) -> None:
        run_id = self.view.run.run.run_id if self.view is not None else ""
        if run_id != self._run_id:
            self._run_id, self._top = run_id, 0
        super().watch_view()

    def on_focus(self) -> None:
        self.update_content()

    def on_blur(self) -> None:
        self.update_content()

    def on_mouse_scroll_down(self) -> None:
        self.action_scroll_rows(1)

    def on_mouse_scroll_up(self) -> None:
        self.action_scroll_rows(-1)

    def action_scroll_rows(self, rows: int) -> None:
        """Show what is this many rows further down."""
        width, height = self.content_size
        self._top = max(0, min(self._top + rows, self.content_rows(width) - height))
        self.update_content()

    def action_scroll_pages(self, pages: int) -> None:
        self.action_scroll_rows(pages * max(1, self.content_size.height - 1))

    def _clipped_content(self) -> Content:
        if not self._top or self.view is None:
            return super()._clipped_content()
        self._content_for = self.content_size
        width, height = self.content_size
        return clip_lines(self.render_lines_for(width, TALLEST)[self._top :], width, height)
