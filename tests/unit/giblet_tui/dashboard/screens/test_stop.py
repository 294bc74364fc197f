"""Stopping runs: asked first with Cancel in focus, reported, never read-only."""

from __future__ import annotations

import pytest
from textual.widgets import Button, Input

from giblet_train.schema.errors import GibletError
from giblet_tui.dashboard.model.messages import ActionReported, StopConfirmed
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import StopDialog
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, dashboard, settle


async def test_stopping_asks_first_with_cancel_in_focus_then_reports() -> None:
    messages: list[object] = []
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(120, 40), message_hook=messages.append) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        assert isinstance(app.screen, StopDialog)
        assert app.focused is app.screen.query_one("#cancel", Button)
        await pilot.press("enter")
        await settle(pilot)
        assert actions.stopped == [] and isinstance(app.screen, MainScreen)
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("right", "enter")
        await settle(pilot)
        run_id = app.fleet.runs()[0].run.run_id
        assert actions.stopped == [run_id]
        reports = [m for m in messages if isinstance(m, StopConfirmed | ActionReported)]
        assert [type(m).__name__ for m in reports] == ["StopConfirmed", "ActionReported", "ActionReported"]
        assert [m.sentence for m in reports if isinstance(m, ActionReported)] == ["asked to stop", "nothing survives"]


async def test_a_stop_that_fails_is_reported_as_an_error() -> None:
    messages: list[object] = []
    app = dashboard(fleets.healthy(), actions=Recorder(GibletError("pid 4242 survives", "giblet stop --force")))
    async with app.run_test(size=(120, 40), message_hook=messages.append) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("right", "enter")
        await settle(pilot)
        assert [m.level for m in messages if isinstance(m, ActionReported)] == ["information", "error"]


async def test_a_production_run_asks_for_its_name() -> None:
    actions = Recorder()
    config = fleets.demo_config("prod", stage="production")
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run("prod", config=config),)),)), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await pilot.pause()
        stop = app.screen.query_one("#stop", Button)
        assert stop.disabled
        app.screen.query_one("#stop-name", Input).focus()
        await pilot.press(*"pro")
        assert stop.disabled
        await pilot.press("d")
        assert not stop.disabled
        await pilot.click("#stop")
        await settle(pilot)
        assert len(actions.stopped) == 1


@pytest.mark.parametrize(
    ("fleet", "readonly"),
    [(fleets.healthy(), True), (Fleet(nodes=(fleets.node(runs=(fleets.run(state="finished"),)),)), False)],
)
async def test_nothing_is_stopped_read_only_or_after_the_end(fleet: Fleet, readonly: bool) -> None:
    actions = Recorder()
    app = dashboard(fleet, actions=actions, readonly=readonly)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("S")
        await settle(pilot)
        assert isinstance(app.screen, MainScreen) and actions.stopped == []
