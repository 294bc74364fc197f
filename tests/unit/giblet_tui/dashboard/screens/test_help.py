"""The help screen lists every pane and key."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from giblet_train import __version__
from giblet_tui.dashboard.panes import PANES
from giblet_tui.dashboard.screens.main import MainScreen
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


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
            "mark: stop",
            "stop the run",
            "quit",
            "next match",
            "?",
        ):
            assert words in text
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


@pytest.mark.parametrize("size", [(60, 15), (120, 40)])
async def test_help_begins_with_the_version_and_what_the_focused_pane_shows(size: tuple[int, int]) -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=size) as pilot:
        await pilot.press("6", "question_mark")
        await pilot.pause()
        words = " ".join(str(app.screen.query_one("#help Static", Static).render()).split())
        assert f"giblet {__version__}" in "\n".join(screen_text(app))
        assert "this pane: verdict" in "\n".join(screen_text(app))
        assert "this pane: verdict each success criterion with its numbers, the worst first" in words
