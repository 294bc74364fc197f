"""The command palette: every key, every command of giblet."""

from __future__ import annotations

from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text, settle


async def test_every_key_and_every_verb_is_in_the_palette() -> None:
    app = dashboard(fleets.healthy())
    run_id = app.fleet.runs()[0].run.run_id
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        commands = {command.title: command for command in app.get_system_commands(app.screen)}
        keys = {
            "crosshair",
            "filter the runs, or search the log if it has the focus",
            "stop the run, or the marked runs (asks first)",
            "first error",
            "mark: stop, evaluate, compare, why, report act on marked runs",
        }
        assert keys <= set(commands)
        commands[f"giblet why {run_id}"].callback()
        await settle(pilot)
        assert isinstance(app.screen, CommandOutputScreen)
        text = "\n".join(screen_text(app))
        assert f"output for {run_id}" in text and "[bold]not markup[/bold]" in text and f"$ giblet why {run_id}" in text
        await pilot.press("escape")
        commands[f"giblet pull {run_id}"].callback()
        assert app.clipboard == f"giblet pull {run_id}"
