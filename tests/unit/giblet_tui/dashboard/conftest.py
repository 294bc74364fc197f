"""Let pauses of a driven dashboard last until its screen stands still."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.pilot import Pilot

MOST_REPEATS = 5


@pytest.fixture(autouse=True)
def pauses_last_until_the_screen_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `pilot.pause()` repeat while the screen changes.

    Textual's own takes a process that waits for a core, as on a busy machine, for one that has drawn everything.
    """
    pause_once = Pilot.pause

    async def pause(pilot: Pilot[object], delay: float | None = None) -> None:
        await pause_once(pilot, delay)
        if delay is not None:
            return
        rows = _rows(pilot.app)
        for _ in range(MOST_REPEATS):
            await pause_once(pilot, 0)
            earlier, rows = rows, _rows(pilot.app)
            if rows == earlier:
                return

    monkeypatch.setattr(Pilot, "pause", pause)


def _rows(app: App[object]) -> list[str]:
    return ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]
