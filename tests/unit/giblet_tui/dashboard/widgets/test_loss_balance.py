"""The balance pane: shares, dominance, gradients."""

from __future__ import annotations

import msgspec

from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


async def test_a_component_that_dominates_is_marked() -> None:
    run = fleets.run(steps=60)
    shares = {"fmri": 0.02, "video": 0.01, "audio": 0.96, "text": 0.01}
    heavy = msgspec.structs.replace(run.steps[-1], share=shares, gradient_share=shares)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(msgspec.structs.replace(run, steps=(*run.steps[:-1], heavy)),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        marked_rows = [row for row in str(app.screen.query_one(Balance).render()).splitlines() if "dominates" in row]
        assert len(marked_rows) == 1 and "audio" in marked_rows[0]


async def test_without_headings_only_figures_that_need_none_are_shown() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(60, 15)) as pilot:
        await pilot.pause()
        (row,) = [row for row in screen_text(app) if "video" in row]
        assert row.split()[1:4:2] == ["video", "-48%"] and row.split()[2] == "0.5195" and row.split()[-1] == "14%"
        assert "0.333" not in row


async def test_gradient_shares_stay_until_they_are_measured_again() -> None:
    run = fleets.run(steps=60)
    measured = msgspec.structs.replace(run.steps[-2], gradient_share={"fmri": 0.07, "video": 0.5, "audio": 0.4})
    last = msgspec.structs.replace(run.steps[-1], gradient_share=None)
    run_measured_before = msgspec.structs.replace(run, steps=(*run.steps[:-2], measured, last))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run_measured_before,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        rows = str(app.screen.query_one(Balance).render()).splitlines()
        assert next(row for row in rows if "fMRI" in row).rstrip().endswith("7%")
