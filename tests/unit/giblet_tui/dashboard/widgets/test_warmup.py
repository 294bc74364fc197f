"""The learning-rate pane: progress, mismatch with its cause, scale."""

from __future__ import annotations

from giblet_tui.dashboard.charts.axis import scientific
from giblet_tui.dashboard.widgets.warmup import WarmupClock
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Clock, dashboard, screen_text


async def test_a_rate_off_plan_turns_the_clock_red_with_its_cause() -> None:
    plan = fleets.run().plan
    assert plan is not None
    run = fleets.run(steps=100, stuck_lr=plan.learning_rate * 0.1 * (1 + 9 * 4 / plan.warmup_steps))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        clock = app.screen.query_one(WarmupClock)
        text = str(clock.render())
        assert "✖ LR 1.9e-4, plan" in text and "likely stepped once per epoch" in text
        assert "as planned" not in text


async def test_an_unexplained_rate_off_plan_is_reported() -> None:
    plan = fleets.run().plan
    assert plan is not None
    run = fleets.run(steps=100, stuck_lr=plan.learning_rate * 0.37)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "✖ no known cause matches" in str(app.screen.query_one(WarmupClock).render())


async def test_warm_up_shows_progress_and_time_left() -> None:
    app = dashboard(fleets.warming_up())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "12/40" in text and "28 steps, 11s to base" in text


async def test_the_rate_s_curve_has_a_scale_where_there_is_room() -> None:
    for size, scaled in (((200, 50), True), ((80, 24), False)):
        app = dashboard(fleets.warming_up(), clock=Clock())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            plan = app.fleet.runs()[0].plan
            assert plan is not None
            assert (f"top {scientific(plan.learning_rate)}" in "\n".join(screen_text(app))) == scaled


async def test_alone_the_rate_has_an_axis_with_round_values() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await pilot.pause()
        labels = [row.split("┤")[0].strip() for row in screen_text(app) if "┤" in row]
        assert len(labels) >= 3 and labels[-1] == "0" and labels == sorted(labels, key=float, reverse=True)
