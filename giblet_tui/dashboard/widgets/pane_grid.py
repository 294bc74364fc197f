"""Places the panes of the main screen by the rules of `pane_layout`, at any size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.reactive import reactive
from textual.widget import Widget

from giblet_tui.dashboard.model.pane_layout import GUTTER, OVERVIEW, SizeHint, Slot, column_widths, place_panes
from giblet_tui.dashboard.panes import PANES, PaneSpec
from giblet_tui.dashboard.widgets.chart_group import CHART_BINDINGS, ChartKeys, Charts

PADDING = 1


class PaneLayout(Layout):
    """Puts each child where its container's `regions` say."""

    name = "panes"

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        regions = parent.regions(size) if isinstance(parent, PaneGrid) else {}
        placements = ((child, regions.get(child.id or "")) for child in children)
        return [WidgetPlacement(region, NULL_OFFSET, NULL_SPACING, child) for child, region in placements if region]


class PaneGrid(ChartKeys, Container):
    """Holds every pane. The keys of the charts work wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = CHART_BINDINGS

    view: reactive[str] = reactive(OVERVIEW, repaint=False)
    """The overview, or the id of the pane that is shown alone."""
    side: reactive[bool | None] = reactive[bool | None](None, repaint=False)
    """Whether the column on the left is shown; None where there is room for it."""
    aside: reactive[bool | None] = reactive[bool | None](None, repaint=False)
    """The same for the column on the right."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(id="panes")
        self._clock = clock
        self._hints: dict[str, SizeHint] = {}
        self._layout = PaneLayout()

    def compose(self) -> ComposeResult:
        for spec in PANES:
            yield spec.create(self._clock)

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def charts(self) -> Charts:
        return self.query_one(Charts)

    def pane(self, name: str) -> Widget:
        """Return the pane with this id."""
        return self.query_one(f"#{name}")

    def regions(self, size: Size) -> Mapping[str, Region]:
        """Return where each pane that is shown is placed in a container of this size."""
        room = Size(max(1, size.width - 2 * PADDING * self._is_padded(size)), size.height)
        slots = [self._slot(spec) for spec in PANES]
        region_by_pane = place_panes(slots, room, self.view, side=self.side, aside=self.aside)
        shift = PADDING * self._is_padded(size)
        return {name: region.translate((shift, 0)) for name, region in region_by_pane.items()}

    def columns(self) -> tuple[int, int]:
        """Return the widths of the columns on the left and on the right, 0 for one that is not shown."""
        width = self.size.width - 2 * PADDING * self._is_padded(self.size)
        return column_widths([self._slot(spec) for spec in PANES], width, self.side, self.aside)

    def arrange_panes(self) -> None:
        """Show the panes that the layout places, hide the others, and give each the form of its size."""
        self._hints |= self._fresh_hints()
        regions = self.regions(self.size)
        for spec in PANES:
            widget, region = self.pane(spec.id), regions.get(spec.id)
            widget.display = region is not None
            if region is not None:
                widget.set_class(region.height <= self._slot(spec).hint.bare, "-bare")
        self.refresh(layout=True)

    def fit_content(self) -> None:
        """Arrange the panes again if their content needs other room than before."""
        hints = self._fresh_hints()
        if any(self._hints.get(name) != hint for name, hint in hints.items()):
            self.arrange_panes()

    def forget_sizes(self) -> None:
        """Let columns become narrower again: for another run."""
        self._hints = {}

    def on_resize(self) -> None:
        self.arrange_panes()

    def watch_view(self) -> None:
        self._rearrange()

    def watch_side(self) -> None:
        self._rearrange()

    def watch_aside(self) -> None:
        self._rearrange()

    def _rearrange(self) -> None:
        if self.is_mounted and self.size.area:
            self.arrange_panes()

    def _is_padded(self, size: Size) -> bool:
        return size.width >= 100 and self.view == OVERVIEW

    def _slot(self, spec: PaneSpec) -> Slot:
        hint = self._hints.get(spec.id, spec.hint)
        grows = spec.grows if hint.grows is None else hint.grows
        return Slot(spec.id, spec.area, hint, spec.min_size[0], spec.row, grows)

    def _fresh_hints(self) -> dict[str, SizeHint]:
        """Return what the panes ask for now. Widths only grow, so that a changing figure moves no column."""
        side, aside = self.columns()
        gutters = GUTTER * (bool(side) + bool(aside))
        main = self.size.width - 2 * PADDING * self._is_padded(self.size) - side - aside - gutters
        widths = {"side": side, "aside": aside}
        hints = {}
        for spec in PANES:
            ask = getattr(self.pane(spec.id), "size_hint", None)
            hint = ask(widths.get(spec.area) or main) if ask is not None else None
            if hint is not None:
                width = max(hint.width, self._hints.get(spec.id, SizeHint()).width)
                hints[spec.id] = hint._replace(width=width)
        return hints
