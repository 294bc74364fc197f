"""The compare screen: names over columns, changes, live curves, losses that are not comparable."""

from __future__ import annotations

import msgspec
import pytest

from giblet_tui.dashboard.screens.compare import CompareScreen
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text, settle


async def test_two_runs_are_compared_and_stay_live() -> None:
    tape = Tape()
    app = dashboard(fleets.several(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app.screen.query_one(RunList).focus()
        await pilot.press("c")
        assert isinstance(app.screen, MainScreen)
        await pilot.press("g", "space", "j", "c")
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, CompareScreen) and screen.comparison is not None
        assert (screen.comparison.old.run.name, screen.comparison.new.run.name) == ("flat", "demo")
        text = "\n".join(screen_text(app))
        assert "Their configurations are the same." in text and "EPOCH 14" in text
        panel = screen.query_one("#video", LossPanel)
        assert panel.view is not None and [o.run.name for o, _ in panel.view.others] == ["flat"]
        await pilot.press("x")
        assert "step 300 not there yet" in str(panel.title())
        tape.play(fleets.node(runs=(fleets.run(steps=300), fleets.several().nodes[0].runs[1])))
        await settle(pilot)
        assert panel.view is not None and len(panel.view.curves.step_N) == 300
        assert "val 0." in str(panel.title())
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_an_older_run_that_is_longer_is_drawn_to_its_end() -> None:
    longer, shorter = fleets.run("a", steps=300), fleets.run("b", steps=100, suffix="bbbb")
    pace = longer.plan_record
    assert pace is not None
    longer = msgspec.structs.replace(longer, plan_record=msgspec.structs.replace(pace, steps_per_epoch=40))
    fleet = Fleet(nodes=(fleets.node(runs=(longer, shorter)),))
    app = dashboard(fleet)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(CompareScreen(fleet, longer.run.run_id, shorter.run.run_id))
        await pilot.pause()
        panel = app.screen.query_one("#fmri", LossPanel)
        assert panel.view is not None
        assert panel.chart(panel.view).whole.last == 300
        app.screen.query_one(Charts).action_axis()
        await pilot.pause()
        chart = panel.chart(panel.view)
        assert chart.others[0].x_N[-1] == pytest.approx(299 / 40) and chart.raw.x_N[-1] == pytest.approx(99 / 20)


async def test_losses_that_are_not_comparable_are_marked() -> None:
    other = fleets.demo_config("heavy", video_weight=3.0)
    fleet = Fleet(nodes=(fleets.node(runs=(fleets.run(), fleets.run("heavy", config=other, suffix="bbbb"))),))
    old, new = (run.run.run_id for run in fleet.nodes[0].runs)
    app = dashboard(fleet)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(CompareScreen(fleet, old, new))
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "≠ total: not comparable, for video_weight differs" in text and "video_weight: 1.0 → 3.0" in text
        assert "≠" in str(app.screen.query_one("#total", LossPanel).title())
        assert "≠" not in str(app.screen.query_one("#fmri", LossPanel).title())


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_the_names_of_the_runs_have_the_titles_of_their_columns(size: tuple[int, int]) -> None:
    fleet = fleets.several()
    old, new = (run.run.run_id for run in fleet.nodes[0].runs[1::-1])
    app = dashboard(fleet)
    async with app.run_test(size=size) as pilot:
        await app.push_screen(CompareScreen(fleet, old, new))
        await pilot.pause()
        rows = screen_text(app)
        assert rows[0].startswith(" OLD ⠒⠂ flat f1a7 on tensor01") and rows[1].startswith(
            " NEW ━━ demo a1b2 on tensor01"
        )
        titles = next(row for row in rows if "EPOCH 14" in row)
        assert titles.index("TRAIN OLD") < titles.index("NEW") < titles.index("VAL OLD")
