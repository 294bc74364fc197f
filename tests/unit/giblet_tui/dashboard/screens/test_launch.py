"""The launch form: changes and a dry run come before the start."""

from __future__ import annotations

from textual.widgets import Button, Checkbox, Input, Select, SelectionList, Static

from giblet_train.schema.errors import GibletError
from giblet_tui.dashboard.model.interfaces import LaunchChoice
from giblet_tui.dashboard.model.messages import ActionReported
from giblet_tui.dashboard.screens.launch import LaunchForm
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Recorder, dashboard, screen_text, settle, until


async def test_the_gpus_are_listed_on_a_small_screen_too() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(60, 15)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+n")
        await settle(pilot)
        assert app.screen.query_one("#launch-gpus").content_size.height == 3
        assert "6  0/48 GiB  free" in "\n".join(screen_text(app))


async def test_buttons_keep_their_words_in_the_themes_of_the_terminal() -> None:
    app = dashboard(fleets.healthy())
    app.theme = "ansi-dark"
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await pilot.press("ctrl+n")
        await settle(pilot)
        assert any("Cancel" in row and "Dry run" in row and "Launch" in row for row in screen_text(app))


async def test_a_launch_needs_a_dry_run_of_its_very_values() -> None:
    messages: list[object] = []
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(120, 40), message_hook=messages.append) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        form = app.screen
        assert isinstance(form, LaunchForm) and form.query_one("#launch", Button).disabled
        text = "\n".join(screen_text(app))
        assert "ada (pid 4242, 41.1 GiB)" in text and "free" in text
        form.query_one("#launch-config", Select).value = "pilot"
        form.query_one(SelectionList).select(6)
        form.query_one("#launch-settings", Input).value = "num_epochs=5 note='two words'"
        await settle(pilot)
        assert form.query_one(SelectionList).border_title == "GPUs: 6"
        assert "num_epochs: 20 → 5" in "\n".join(screen_text(app))
        assert form.query_one("#launch", Button).disabled
        await pilot.click("#dry-run")
        await settle(pilot)
        assert "on GPU 6, in a tmux session" in "\n".join(screen_text(app))
        assert not form.query_one("#launch", Button).disabled and actions.launched == []
        form.query_one("#launch-note", Input).value = "changed after the dry run"
        form.query_one("#launch-resume", Input).value = "@last"
        form.query_one("#launch-preset", Select).value = "lab"
        form.query_one("#launch-session", Select).value = "screen"
        form.query_one("#launch-when-free", Checkbox).value = True
        await settle(pilot)
        assert form.query_one("#launch", Button).disabled
        await pilot.click("#dry-run")
        await settle(pilot)
        await pilot.click("#launch")
        await settle(pilot)
        settings = ("num_epochs=5", "note=two words", "model.preset=lab")
        note = "changed after the dry run"
        choice = LaunchChoice("tensor01", "pilot", "6,", settings, note, "@last", "screen", when_free=True)
        assert actions.launched == [choice]
        sentences = [m.sentence for m in messages if isinstance(m, ActionReported)]
        assert sentences == ["placing files", "pilot-1 was started on tensor01"]


async def test_what_the_node_refuses_cannot_be_launched() -> None:
    actions = Recorder(GibletError("Busy: GPU 0: ada", "Choose others."))
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        app.screen.query_one("#launch-config", Select).value = "demo"
        await settle(pilot)
        app.screen.query_one("#dry-run", Button).press()
        await settle(pilot)
        assert "Busy: GPU 0: ada" in str(app.screen.query_one("#launch-lines", Static).render())
        assert app.screen.query_one("#launch", Button).disabled and actions.launched == []
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_the_launch_form_can_be_reached_to_its_end_on_a_small_screen() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(60, 15)) as pilot:
        await pilot.pause()
        await pilot.press("ctrl+n")
        await pilot.pause()
        await until(pilot, lambda: app.focused is not None and app.focused.id == "launch-config")
        button = app.screen.query_one("#cancel", Button)
        button.focus()
        await until(pilot, lambda: app.size.region.contains_region(button.region))
        await settle(pilot)
        assert "Cancel" in "\n".join(screen_text(app))


async def test_a_command_is_launched_in_place_of_a_configuration() -> None:
    actions = Recorder()
    app = dashboard(fleets.healthy(), actions=actions)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+n")
        await pilot.pause()
        form = app.screen
        form.query_one("#launch-command", Input).value = "python train.py --note 'two"
        await settle(pilot)
        assert "command: a quotation mark is not closed" in "\n".join(screen_text(app))
        assert form.query_one("#dry-run", Button).disabled
        form.query_one("#launch-command", Input).value = "python train.py --note 'two words'"
        form.query_one("#launch-folder", Input).value = "~/project"
        await settle(pilot)
        form.query_one("#dry-run", Button).press()
        await settle(pilot)
        form.query_one("#launch", Button).press()
        await settle(pilot)
        words = ("python", "train.py", "--note", "two words")
        assert actions.launched == [LaunchChoice("tensor01", command=words, folder="~/project")]


async def test_a_command_on_a_node_without_gpus_gets_none() -> None:
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(),)),)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+n")
        await pilot.pause()
        form = app.screen
        assert isinstance(form, LaunchForm)
        form.query_one("#launch-command", Input).value = "true"
        await settle(pilot)
        assert form.choice == LaunchChoice("tensor01", gpus="0", command=("true",))


async def test_boxes_are_empty_until_they_are_ticked_and_free_gpus_come_first() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("ctrl+n")
        await pilot.pause()
        rows = [row for row in screen_text(app) if "/48 GiB" in row]
        assert "free" in rows[0] and "free" in rows[1] and "ada (pid 4242" in rows[2]
        assert not any("X" in row for row in rows)
        app.screen.query_one(SelectionList).select(7)
        app.screen.query_one("#launch-when-free", Checkbox).value = True
        await settle(pilot)
        rows = screen_text(app)
        assert ["X" in row for row in rows if "/48 GiB" in row][:3] == [False, True, False]
        assert "X" in next(row for row in rows if "wait for free GPUs" in row)
