"""Actions that fail in an unexpected way are reported and never end the application."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Button, Select, Static

from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.model.attempt import attempt, error_sentence
from giblet_tui.dashboard.model.interfaces import StaleRunChoice
from giblet_tui.dashboard.model.messages import ActionReported
from giblet_tui.dashboard.screens.command_output import CommandOutputScreen
from giblet_tui.dashboard.screens.launch import LaunchForm
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.screens.stop import RunListDialog
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, dashboard, screen_text, settle, until

UNEXPECTED = KeyError("survivors")


async def stop(pilot: Pilot[int]) -> None:
    await pilot.press("S")
    await pilot.pause()
    await pilot.press("right", "enter")


async def launch(pilot: Pilot[int]) -> None:
    await pilot.press("ctrl+n")
    await pilot.pause()
    app = pilot.app
    app.screen.query_one("#launch-config", Select).value = "demo"
    await settle(pilot)
    app.screen.query_one("#dry-run", Button).press()
    await settle(pilot)


async def read(pilot: Pilot[int]) -> None:
    await pilot.press("W")


async def acknowledge(pilot: Pilot[int]) -> None:
    await pilot.press("A")


async def open_palette(pilot: Pilot[int]) -> None:
    assert list(pilot.app.get_system_commands(pilot.app.screen))


async def stop_stale(pilot: Pilot[int]) -> None:
    await pilot.press("X")


@pytest.mark.parametrize("use", [stop, launch, read, acknowledge, open_palette, stop_stale])
async def test_an_action_that_raises_keyerror_is_reported_and_the_dashboard_stays(
    use: Callable[[Pilot[int]], object],
) -> None:
    reports: list[object] = []
    run = fleets.run(alerts=(fleets.alert(),))
    fleet = Fleet(nodes=(fleets.node(runs=(run,)),))
    app = dashboard(fleet, actions=Recorder(UNEXPECTED))
    async with app.run_test(size=(120, 40), message_hook=reports.append) as pilot:
        await pilot.pause()
        await use(pilot)  # type: ignore[misc]
        await settle(pilot)
        sentences = [m.sentence for m in reports if isinstance(m, ActionReported) and m.level == "error"]
        lines = [str(widget.render()) for widget in app.screen.query(Static)]
        assert any("KeyError: 'survivors'" in text and "driver.py:" in text for text in (*sentences, *lines))
        await pilot.press("escape")
        await pilot.pause()
        assert app.is_running and isinstance(app.screen, MainScreen)
    assert app.return_code == 0 or app.return_code is None


async def test_a_key_whose_handler_raises_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(app: DashboardApp) -> None:
        raise KeyError("theme")

    monkeypatch.setattr(DashboardApp, "action_next_theme", fail)
    reports: list[object] = []
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24), message_hook=reports.append) as pilot:
        await pilot.pause()
        await pilot.press("T")
        await settle(pilot)
        assert [m.level for m in reports if isinstance(m, ActionReported)] == ["error"]
        assert app.is_running


async def test_configurations_that_cannot_be_listed_are_reported() -> None:
    class Broken(Recorder):
        def configs(self) -> list[str]:
            raise OSError("disk error")

    reports: list[object] = []
    app = dashboard(fleets.healthy(), actions=Broken())
    async with app.run_test(size=(80, 24), message_hook=reports.append) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await settle(pilot)
        assert not isinstance(app.screen, LaunchForm)
        assert ["disk error" in m.sentence for m in reports if isinstance(m, ActionReported)] == [True]


def test_an_attempt_returns_the_value_or_a_sentence() -> None:
    def divide() -> float:
        return 1 / 0

    assert attempt(lambda: 3).value == 3
    outcome = attempt(divide)
    assert outcome.value is None and "ZeroDivisionError: division by zero" in outcome.error
    assert error_sentence(fleets_error()) == "no such run"


def fleets_error() -> Exception:
    from giblet_train.schema.errors import GibletError

    return GibletError("no such run")


async def test_stale_runs_are_listed_with_reasons_before_any_is_stopped() -> None:
    stale = (StaleRunChoice("demo-1", "tensor01", "holds GPU 3 without a step for 2h"),)
    actions = Recorder(stale=stale)
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("X")
        await settle(pilot)
        assert isinstance(app.screen, RunListDialog) and app.focused is app.screen.query_one("#cancel", Button)
        text = "\n".join(screen_text(app))
        assert "demo-1 on tensor01" in text and "holds GPU 3 without a step" in text
        await pilot.press("enter")
        await settle(pilot)
        assert actions.stopped == []
        await pilot.press("X")
        await settle(pilot)
        await pilot.press("right", "enter")
        await settle(pilot)
        assert actions.stopped == ["demo-1"]


@pytest.mark.parametrize(("key", "verb"), [("W", "why"), ("R", "report"), ("E", "evaluate")])
async def test_why_report_and_evaluate_are_shown_on_screen(key: str, verb: str) -> None:
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    run_id = app.fleet.runs()[0].run.run_id
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(key)
        await settle(pilot)
        assert isinstance(app.screen, CommandOutputScreen)
        assert actions.printed == [(verb, run_id)]
        text = "\n".join(screen_text(app))
        assert f"$ giblet {verb} {run_id}" in text and "[bold]not markup[/bold]" in text and "ended" in text


@pytest.mark.parametrize("key", ["X", "E", "S", "ctrl+n"])
async def test_read_only_refuses_what_changes_anything(key: str) -> None:
    actions = Recorder(stale=(StaleRunChoice("demo-1", "tensor01", "idle"),))
    app = dashboard(fleets.healthy(), actions=actions, readonly=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press(key)
        await settle(pilot)
        assert isinstance(app.screen, MainScreen) and actions.printed == [] and actions.stopped == []


async def test_the_output_of_a_command_appears_line_by_line() -> None:
    may_proceed = threading.Event()

    class Slow(Recorder):
        def output(self, words: Sequence[str], show: Callable[[str], None], end: threading.Event) -> None:
            show("first line")
            may_proceed.wait(120)
            show("second line")

    app = dashboard(fleets.healthy(), actions=Slow())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("W")
        screen = app.screen
        assert isinstance(screen, CommandOutputScreen)
        await until(pilot, lambda: bool(screen.lines))
        assert "first line" in "\n".join(screen_text(app)) and "running" in "\n".join(screen_text(app))
        may_proceed.set()
        await settle(pilot)
        assert screen.lines == ["first line", "second line"]


@pytest.mark.parametrize("use", [stop, acknowledge])
async def test_a_colleague_s_run_is_shown_with_its_owner_and_not_changed(use: Callable[[Pilot[int]], object]) -> None:
    run = replace(fleets.run(alerts=(fleets.alert(),)), owner="bob")
    actions = Recorder()
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)), actions=actions)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert any("bob: demo" in row for row in screen_text(app))
        await use(pilot)  # type: ignore[misc]
        await settle(pilot)
        assert actions.stopped == [] and actions.answered == []
        assert [notice.message for notice in app._notifications] == ["A run of bob: you may read it, not change it."]
