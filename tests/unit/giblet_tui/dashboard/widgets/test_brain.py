"""The brain pane."""

from __future__ import annotations

from msgspec.structs import replace

from giblet_tui.dashboard.widgets.brain import BrainPane
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard
from tests.unit.giblet_tui.reporting.test_brain_view import record


async def test_the_cursor_names_places_and_the_map_can_be_changed() -> None:
    fleet = fleets.several()
    nodes = [replace(n, runs=tuple(replace(run, brain=record()) for run in n.runs)) for n in fleet.nodes]
    app = dashboard(replace(fleet, nodes=tuple(nodes)))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("v")
        await pilot.pause()
        pane = app.screen.query_one(BrainPane)
        assert pane.display and "held-out r, step 400" in pane.title().plain
        assert "█ 0.6" in pane.render().plain and "L from behind R" in pane.render().plain
        assert "(10, 10, 25) mm, auditory: 0.60" in pane.render().plain
        await pilot.press("left", "down", "left_square_bracket")
        await pilot.pause()
        assert "(5, 5, 20) mm: no value" in pane.render().plain
        await pilot.press("m")
        await pilot.pause()
        assert "regions" in pane.title().plain and "█ auditory" in pane.render().plain
        await pilot.press("home")
        await pilot.pause()
        assert "(10, 10, 25) mm, auditory: auditory" in pane.render().plain


async def test_a_run_without_maps_says_when_it_gets_them() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        await pilot.press("v")
        await pilot.pause()
        assert "at its first validation" in app.screen.query_one(BrainPane).render().plain
