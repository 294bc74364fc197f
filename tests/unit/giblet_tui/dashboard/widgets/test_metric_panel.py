"""Numbers of a command that are no losses: their panels, their figures, and the dialog that chooses the curves."""

from __future__ import annotations

import pytest
from textual.widgets import SelectionList

from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.metric_panel import MetricPanel
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text, settle


def fleet(run: RunSnapshot) -> Fleet:
    return Fleet(nodes=(fleets.node(runs=(run,)),))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_metrics_have_panels_with_direction_and_figures(size: tuple[int, int]) -> None:
    app = dashboard(fleet(fleets.command_run()))
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        panels = [panel for panel in app.screen.query(LossPanel) if panel.display]
        assert [panel.component for panel in panels] == ["total", "accuracy", "PSNR", "WER", "grad_norm"]
        text = "\n".join(screen_text(app))
        assert "accuracy ↑" in text and "WER ↓" in text and "grad_norm 0.7461" in text and "epoch 0" in text
        assert any(part.style == "accuracy train" for row in panels[1]._rows for part in row)
        assert "balance  not in its output" in text
        assert " epoch 23/40" in text and "has ended" not in text


async def test_alone_it_names_its_best_value() -> None:
    app = dashboard(fleet(fleets.command_run()))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        next(panel for panel in app.screen.query(MetricPanel) if panel.component == "accuracy").focus()
        await pilot.press("z")
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "train 0.8832  val 0.7592  best 0.7617 at epoch 18" in text
        await pilot.press("x")
        await settle(pilot)
        assert "at epoch 23" in "\n".join(screen_text(app))


async def test_a_command_that_prints_no_loss_shows_its_numbers_alone() -> None:
    app = dashboard(fleet(fleets.command_run(losses=False, by_step=True)))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        names = [panel.component for panel in app.screen.query(LossPanel) if panel.display]
        assert names == ["accuracy", "PSNR", "WER", "grad_norm"]
        assert "step 0" in "\n".join(screen_text(app))


async def test_the_curves_are_chosen_in_a_dialog() -> None:
    app = dashboard(fleet(fleets.command_run()))
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("m")
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "lower is better" in text and "higher is better" in text
        choices = app.screen.query_one(SelectionList)
        choices.deselect_all()
        await pilot.press("down", "down", "space", "enter")
        await settle(pilot)
        assert [panel.component for panel in app.screen.query(LossPanel)] == ["PSNR"]
        assert "PSNR ↑ val 24.600  best 24.600 at epoch 23" in "\n".join(screen_text(app))
        await pilot.press("m")
        await settle(pilot)
        app.screen.query_one(SelectionList).deselect_all()
        await pilot.press("enter")
        await settle(pilot)
        assert len(app.screen.query(LossPanel)) == 5, "nothing ticked brings back the usual curves"


async def test_giblet_s_own_run_offers_the_correlation_with_fmri() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("m", "end", "space", "enter")
        await settle(pilot)
        names = [panel.component for panel in app.screen.query(LossPanel)]
        assert names == ["total", "fmri", "video", "audio", "text", "fMRI r"]
