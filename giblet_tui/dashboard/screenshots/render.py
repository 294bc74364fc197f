"""A run's screen, or one panel of it, as a picture: cells with their colours, taken without a terminal from the very
application that people look at.

`svg` and `png` turn a picture into a file.
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
from giblet_tui.dashboard.style import themes
from giblet_tui.dashboard.widgets.panes import Panes
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot

Colour = tuple[int, int, int]
FAINT = 0.5
"""How much of its colour a dim text keeps against its ground."""


class Run(NamedTuple):
    """Neighbouring cells of one look, beginning at `column`."""

    column: int
    text: str
    ink: Colour
    ground: Colour
    bold: bool = False

    @property
    def width(self) -> int:
        """In cells: some characters take two."""
        return cell_len(self.text)


@dataclass(frozen=True)
class Picture:
    """Rows of runs; `ground` is what lies between and around them."""

    title: str
    columns: int
    rows: tuple[tuple[Run, ...], ...]
    ground: Colour


class StaticSource:
    """A source without news."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Nothing begins."""

    def close(self) -> None:
        """Nothing ends."""


def run_picture(
    fleet: Fleet,
    run_id: str,
    columns: int,
    rows: int,
    *,
    panel: str = "",
    light: bool = False,
    clock: Callable[[], float] = time.time,
) -> Picture:
    """One run of the fleet in so many cells. panel: the id of one pane, in all those cells; else the whole screen.

    Raises ConfigError for a panel that there is none of.
    """
    app = DashboardApp(StaticSource(), None, fleet, clock=clock, chosen=run_id)
    if light:
        app.theme = themes.LIGHT_THEME.name
    taken: list[Picture] = []
    known: list[str] = []

    async def take(pilot: Pilot[object]) -> None:
        await pilot.pause()
        known.extend(pane.id or "" for pane in app.screen.query_one(Panes).children)
        if panel in known:
            app.screen.full = panel  # type: ignore[attr-defined]
            await pilot.pause()
        region = app.screen.query_one(f"#{panel}").region if panel in known else app.screen.region
        title = f"giblet: {run_id}{f', {panel}' if panel else ''}"
        taken.append(picture_of(app.screen._compositor.render_strips(), region, title))
        app.exit(0)

    app.run(headless=True, size=(columns, rows), auto_pilot=take)
    if panel and panel not in known:
        raise ConfigError(f"There is no panel {panel}{nearest(panel, known) or '.'}", f"One of: {', '.join(known)}")
    return taken[0]


def picture_of(strips: Sequence[Strip], region: Region, title: str) -> Picture:
    """What a screen's strips show within a region of it."""
    shown = [strip.crop(region.x, region.right) for strip in strips[region.y : region.bottom]]
    rows = tuple(tuple(_runs(strip)) for strip in shown)
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
