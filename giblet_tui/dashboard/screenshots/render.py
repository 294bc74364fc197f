"""Take a run's screen, or one panel of it, as a picture: cells with their colours, drawn by the dashboard itself.

No terminal is needed. `svg_text` and `png_bytes` turn a picture into a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.panes import PANES
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.settings import Settings
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot

Colour = tuple[int, int, int]
FAINT = 0.5
"""How much of its colour a dim text keeps against its background."""


class Run(NamedTuple):
    """Neighbouring cells of one look."""

    column: int
    """Where they begin."""
    text: str
    ink: Colour
    ground: Colour
    bold: bool = False

    @property
    def width(self) -> int:
        """Return the width in cells: some characters take two."""
        return cell_len(self.text)


@dataclass(frozen=True)
class Picture:
    """Rows of runs."""

    title: str
    columns: int
    rows: tuple[tuple[Run, ...], ...]
    ground: Colour
    """The background between and around them."""


class StaticSource:
    """A source that posts nothing."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Begin nothing."""

    def close(self) -> None:
        """End nothing."""


def run_picture(
    fleet: Fleet,
    run_id: str,
    columns: int,
    rows: int,
    *,
    panel: str = "",
    theme: str = "",
    clock: Callable[[], float] = time.time,
) -> Picture:
    """Return a picture of one run of the fleet.

    Args:
        fleet: All nodes.
        run_id: The run that is shown.
        columns: Width in cells.
        rows: Height in cells.
        panel: Id of a pane or name of a loss, which is drawn alone; empty for the whole screen.
        theme: Name of a theme; giblet-dark if empty.
        clock: Seconds since 1970.

    Raises ConfigError if there is no such panel or theme.
    """
    settings = Settings(theme=theme)
    app = DashboardApp(StaticSource(), None, fleet, clock=clock, selected_run_id=run_id, settings=settings)
    pictures: list[Picture] = []
    names: list[str] = []

    async def take(pilot: Pilot[object]) -> None:
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, MainScreen)
        names.extend([*(spec.id for spec in PANES), *(chart.component for chart in screen.charts.panels)])
        region = screen.region
        if panel in names:
            region = await _show_alone(screen, panel, pilot)
        title = f"giblet: {run_id}{f', {panel}' if panel else ''}"
        pictures.append(picture_of(screen._compositor.render_strips(), region, title))
        app.exit(0)

    app.run(headless=True, size=(columns, rows), auto_pilot=take)
    if panel and panel not in names:
        raise ConfigError(f"There is no panel {panel}{nearest(panel, names) or '.'}", f"One of: {', '.join(names)}")
    return pictures[0]


async def _show_alone(screen: MainScreen, panel: str, pilot: Pilot[object]) -> Region:
    """Show a pane or a loss alone and return its place on the screen."""
    if any(spec.id == panel for spec in PANES):
        screen.action_show_pane(panel)
        await pilot.pause()
        return screen.panes.pane(panel).region
    screen.action_show_pane("losses", panel)
    await pilot.pause()
    return next(chart.region for chart in screen.charts.panels if chart.component == panel)


def picture_of(strips: Sequence[Strip], region: Region, title: str) -> Picture:
    """Return what a screen's strips show within a region of it."""
    region_strips = [strip.crop(region.x, region.right) for strip in strips[region.y : region.bottom]]
    rows = tuple(tuple(_runs(strip)) for strip in region_strips)
    grounds = [run.ground for row in rows for run in row for _ in range(run.width)]
    ground = max(set(grounds), key=grounds.count, default=(0, 0, 0))
    return Picture(title, region.width, rows, ground)


def _runs(strip: Strip) -> Iterator[Run]:
    column = 0
    for segment in Segment.simplify(strip):
        style = segment.style or Style()
        ink, ground = _colours(style)
        if wide := cell_len(segment.text):
            yield Run(column, segment.text, ink, ground, bool(style.bold))
        column += wide


def _colours(style: Style) -> tuple[Colour, Colour]:
    theme = SVG_EXPORT_THEME
    ink = tuple(style.color.get_truecolor(theme)) if style.color else tuple(theme.foreground_color)
    ground = tuple(style.bgcolor.get_truecolor(theme, False)) if style.bgcolor else tuple(theme.background_color)
    if style.reverse:
        ink, ground = ground, ink
    if style.dim:
        ink = tuple(round(FAINT * a + (1 - FAINT) * b) for a, b in zip(ink, ground, strict=True))
    return (ink[0], ink[1], ink[2]), (ground[0], ground[1], ground[2])
