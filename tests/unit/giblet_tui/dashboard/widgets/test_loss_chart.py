"""Loss panels: headings, keys, mouse, zoom and log axis."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from giblet_tui.dashboard.charts.viewport import Viewport
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.monitor.metric_columns import value_at
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text, settle


async def test_large_losses_fit_narrow_panels() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("g", "j")
        await pilot.pause()
        for name in ("video", "audio", "text"):
            panel = app.screen.query_one(f"#{name}", LossPanel)
            train, held_out = str(panel.title()).split()[-1].split("/")
            assert train != held_out and len(train) == len(held_out)


async def test_large_losses_are_shown_with_enough_digits() -> None:
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run("flat", flat=True, loss_scale=137_000.0),)),)))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        total = app.fleet.runs()[0].epochs[-1].validation
        assert total is not None and total.total is not None
        assert f"val {total.total:,.0f}"[:-2] in text


async def test_a_run_without_steps_names_the_epoch_of_its_first_nan() -> None:
    run = fleets.run(steps=200)
    epochs = [replace(e, train=replace(e.train, total=None if e.epoch > 6 else e.train.total)) for e in run.epochs]
    app = dashboard(Fleet(nodes=(fleets.node(runs=(replace(run, steps=(), config=None, epochs=tuple(epochs)),)),)))
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        assert "✖ NaN from epoch 7" in "\n".join(screen_text(app))


async def test_chart_keys_move_one_lens_that_all_panels_share() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("plus", "L", "x", "left", "right_square_bracket")
        viewport = app.screen.query_one(Charts).viewport
        assert (viewport.share, viewport.log, viewport.decay) == (0.5, True, 0.95)
        assert viewport.cursor == pytest.approx(0.99)
        assert {panel.viewport for panel in app.screen.query(LossPanel)} == {viewport}
        for panel in app.screen.query(LossPanel):
            chart = panel.chart(panel.view)  # type: ignore[arg-type]
            assert chart.cursor is not None
            figure = float(re.findall(r"\d\.\d+", str(panel.title()))[0])
            assert figure == pytest.approx(value_at(chart.smooth, chart.cursor), abs=6e-4)
        await pilot.press("a")
        assert "epoch" in "\n".join(screen_text(app))
        await pilot.press("a", "a", "a", "minus", "L", "left_square_bracket")
        assert app.screen.query_one(Charts).viewport == Viewport()


async def test_zoom_survives_live_data() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("plus", "plus", "left")
        before = app.screen.query_one(Charts).viewport
        tape.play(fleets.node(runs=(fleets.run(steps=320),)))
        await settle(pilot)
        assert app.screen.query_one(Charts).viewport == before


async def test_the_wheel_zooms_and_a_click_sets_the_crosshair() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.click("#total", offset=(20, 4))
        cursor = app.screen.query_one(Charts).viewport.cursor
        assert cursor is not None and 0 < cursor < 1
        app.screen.query_one(Charts).post_message(LossPanel.Zoomed(0.5, cursor))
        await pilot.pause()
        assert app.screen.query_one(Charts).viewport.share == 0.5


async def test_dragging_and_a_sideways_wheel_pan() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        charts = app.screen.query_one(Charts)
        await pilot.press("plus", "plus")
        before = charts.viewport
        await pilot.mouse_down("#total", offset=(12, 4))
        await pilot.hover("#total", offset=(22, 4))
        await pilot.mouse_up("#total", offset=(22, 4))
        await pilot.pause()
        viewport = charts.viewport
        assert (
            viewport.share == before.share and viewport.end is not None and viewport.end < 1 and viewport.cursor is None
        )
        charts.query_one("#total", LossPanel).post_message(LossPanel.Panned(9.0))
        await pilot.pause()
        assert charts.viewport.end is None


async def test_a_log_axis_is_suggested_for_values_over_decades() -> None:
    fleet = fleets.several()
    app = dashboard(fleet)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        panel = app.screen.query_one("#total", LossPanel)
        app.screen.query_one(RunList).focus()
        await pilot.press("g", "j", "space", "k")
        await pilot.pause()
        assert "L for log" in str(panel.title())
        await pilot.press("L")
        assert "L for log" not in str(panel.title())


async def test_each_percentage_follows_its_figure_and_both_have_one_reference() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        run = app.fleet.runs()[0]
        epoch = run.epochs[-1]
        assert epoch.validation is not None and run.plan_record is not None
        start = run.plan_record.start_total
        for size in ((120, 40), (60, 15)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            title = str(app.screen.query_one("#total", LossPanel).title())
            train, held_out = epoch.train.total or 0.0, epoch.validation.total or 0.0
            assert f"train {train:.3f} {train / start - 1:+.0%}" in title
            assert f"val {held_out:.3f} {held_out / start - 1:+.0%}" in title
            assert f"epoch {epoch.epoch}" in title


async def test_a_loss_of_many_constants_is_a_multiple() -> None:
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run("flat", flat=True, loss_scale=200_000.0),)),)))
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        assert "2.0e5×" in str(app.screen.query_one("#video", LossPanel).title())
        rows = screen_text(app)
        assert not any("…" in row for row in rows if "━━ fMRI" in row or "╍╍ video" in row)
