"""The help screen lists every pane and key."""

from __future__ import annotations

from textual.widgets import Static

from giblet_tui.dashboard.panes import PANES
from giblet_tui.dashboard.screens.main import MainScreen
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard


async def test_help_lists_every_pane_and_key() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("question_mark")
        await pilot.pause()
        text = str(app.screen.query_one("#help Static", Static).render())
        for words in (
            *(spec.title for spec in PANES),
            "crosshair",
            "filter the runs, or search the log",
            "mark to compare",
            "stop the run",
            "quit",
            "next match",
            "?",
        ):
            assert words in text
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
