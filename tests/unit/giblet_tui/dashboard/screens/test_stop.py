"""Stopping runs: asked first with Cancel in focus, reported, never read-only."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Button, Input

from giblet_train.schema.errors import GibletError
from giblet_tui.dashboard.model.messages import ActionReported, StopConfirmed
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import RunListDialog, StopDialog
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, dashboard, screen_text, settle


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


async def mark_all(pilot: Pilot[int]) -> None:
    """Mark every run of the list that has the focus."""
    await pilot.pause()
    await pilot.press("g", "space", *("j", "space") * 3)
    await pilot.pause()


async def test_marked_runs_are_listed_and_stopped_with_one_confirmation() -> None:
    actions = Recorder()
    runs = (*(fleets.run(name, suffix=f"{name}{name}") for name in ("aa", "bb")),
            fleets.run("cc", suffix="cccc", state="finished", sentence="finished all its steps"),
            replace(fleets.run("dd", suffix="dddd"), owner="bob"))  # fmt: skip
    app = dashboard(Fleet(nodes=(fleets.node(runs=runs),)), actions=actions)
    async with app.run_test(size=(120, 40)) as pilot:
        await mark_all(pilot)
        assert any("4 marked, U none" in row for row in screen_text(app))
        await pilot.press("S")
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert isinstance(app.screen, RunListDialog) and app.focused is app.screen.query_one("#cancel", Button)
        assert "Stop these 2 marked runs?" in text and "giblet stop aa-20270115-080000-aaaa" in text, text
        await pilot.press("enter")
        await settle(pilot)
        assert actions.stopped == [], "the first button is Cancel"
        await pilot.press("S")
        await pilot.pause()
        await pilot.press("right", "enter")
        await settle(pilot)
        assert sorted(actions.stopped) == [run.run.run_id for run in runs[:2]], "neither an ended nor another's run"
        await pilot.press("U")
        await pilot.pause()
        assert not any("marked" in row for row in screen_text(app))


async def test_production_runs_among_marked_ones_ask_for_a_phrase() -> None:
    actions = Recorder()
    config = fleets.demo_config("prod", stage="production")
    runs = (
        fleets.run("prod", config=config, suffix="aaaa"),
        *(fleets.run(n, suffix=n * 2) for n in ("bb", "cc", "dd")),
    )
    app = dashboard(Fleet(nodes=(fleets.node(runs=runs),)), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await mark_all(pilot)
        await pilot.press("S")
        await pilot.pause()
        assert app.screen.query_one("#stop", Button).disabled
        app.screen.query_one("#stop-name", Input).value = "stop 4 runs"
        await pilot.pause()
        app.screen.query_one("#stop", Button).press()
        await settle(pilot)
        assert len(actions.stopped) == 4


@pytest.mark.parametrize(("key", "asks"), [("E", True), ("W", False), ("R", False)])
async def test_commands_run_for_each_marked_run_in_turn(key: str, asks: bool) -> None:
    actions = Recorder()
    runs = tuple(fleets.run(name, suffix=name * 2) for name in ("aa", "bb", "cc", "dd"))
    app = dashboard(Fleet(nodes=(fleets.node(runs=runs),)), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await mark_all(pilot)
        await pilot.press(key)
        await settle(pilot)
        if asks:
            assert isinstance(app.screen, RunListDialog) and actions.printed == []
            await pilot.press("right", "enter")
            await settle(pilot)
        assert isinstance(app.screen, CommandOutputScreen)
        assert sorted(words[1] for words in actions.printed) == [run.run.run_id for run in runs]
        assert "output for dd-20270115-080000-dddd" in "\n".join(screen_text(app))


async def test_more_than_two_marked_runs_are_compared_in_a_table() -> None:
    runs = tuple(
        fleets.run(name, suffix=name * 2, config=fleets.demo_config(name, learning_rate=rate), steps=steps)
        for name, rate, steps in (("aa", 1e-3, 200), ("bb", 2e-3, 240), ("cc", 3e-3, 280), ("dd", 3e-3, 400))
    )
    app = dashboard(Fleet(nodes=(fleets.node(runs=runs),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await mark_all(pilot)
        await pilot.press("c")
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert (
            isinstance(app.screen, CommandOutputScreen) and "node" in app.screen.lines[1] and len(app.screen.lines) > 10
        )
        assert "aa aaaa" in text and "dd dddd" in text and "learning_rate" in text and "0.003" in text
        assert "validation fmri" in text and "losses at epoch 10" in text
