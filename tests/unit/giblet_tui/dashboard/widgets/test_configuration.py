"""The configuration pane: note, difference from the previous run, settings."""

import re

from msgspec.structs import replace

from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


async def test_the_note_and_the_difference_from_the_previous_run_come_first() -> None:
    before = fleets.run(suffix="aaaa", state="finished", sentence="finished all its steps")
    before = replace(before, run=replace(before.run, launched_at=before.run.launched_at - 3600))
    after = fleets.run(suffix="bbbb", config=fleets.demo_config(learning_rate=5e-4))
    after = replace(after, run=replace(after.run, note="half the rate"))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(after, before)),)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("i")
        await pilot.pause()
        rows = screen_text(app)
        assert "configuration  demo, stage test" in rows[1]
        assert rows[2].startswith("note: half the rate")
        assert "differs from the previous run aaaa, finished:" in rows[3]
        assert "learning_rate: 0.001 → 0.0005" in rows[4]
        assert any("num_epochs: 20" in row for row in rows) and any("by ada" in row for row in rows)


async def test_a_first_run_has_nothing_to_differ_from() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("i")
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "no note" in text and "no earlier run of this name" in text


async def test_an_equal_configuration_is_named_as_such() -> None:
    before, after = fleets.run(suffix="aaaa"), fleets.run(suffix="bbbb")
    before = replace(before, run=replace(before.run, launched_at=1.0))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(after, before)),)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("i")
        await pilot.pause()
        assert "same configuration as the previous run aaaa, running" in "\n".join(screen_text(app))


async def test_every_setting_can_be_reached() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("i")
        await pilot.pause()
        assert re.search(r"rows 1-21 of \d{3}, ↑ ↓", screen_text(app)[1]) and "seed: 0" in "\n".join(screen_text(app))
        await pilot.press("pagedown", "down")
        await pilot.pause()
        assert "rows 22-42 of" in screen_text(app)[1] and "seed: 0" not in "\n".join(screen_text(app))
        await pilot.press("end")
        await pilot.pause()
        (words,) = re.findall(r"rows \d+-(\d+) of (\d+)", screen_text(app)[1])
        assert words[0] == words[1]
        await pilot.press("home")
        await pilot.pause()
        assert "rows 1-21 of" in screen_text(app)[1]
