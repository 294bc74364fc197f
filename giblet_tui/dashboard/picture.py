"""The run screen as an SVG file's text, drawn without a terminal by the same application that people look at."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from textual.pilot import Pilot

from giblet_tui.dashboard import themes
from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.fleet import Fleet, NodeSnapshot

FONT_FROM_AFAR = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


class Still:
    """A source without news."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Nothing begins."""

    def close(self) -> None:
        """Nothing ends."""


def run_screen(
    fleet: Fleet, run_id: str, columns: int, rows: int, *, light: bool = False, clock: Callable[[], float] = time.time
) -> str:
    """The screen of one run of the fleet in so many cells. The picture asks no other host for fonts."""
    app = DashboardApp(Still(), None, fleet, clock=clock, chosen=run_id)
    if light:
        app.theme = themes.LIGHT_THEME.name
    drawn: list[str] = []

    async def draw(pilot: Pilot[object]) -> None:
        await pilot.pause()
        drawn.append(app.export_screenshot(title=f"giblet: {run_id}"))
        app.exit(0)

    app.run(headless=True, size=(columns, rows), auto_pilot=draw)
    # Some viewers fold the blanks that a line of a terminal begins with, unless told not to.
    return FONT_FROM_AFAR.sub("\n", drawn[0]).replace("<svg ", '<svg xml:space="preserve" ', 1)
