"""The table of panes: every key works, every pane is there, at every size."""

from __future__ import annotations

import pytest
from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS

from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.panes import OVERVIEW_KEY, PANES, PaneSpec, pane_spec
from giblet_tui.dashboard.screens.main import MainScreen
from giblet_tui.dashboard.widgets.chart_group import CHART_BINDINGS
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.pane_grid import PaneGrid
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


def keys_of(bindings: list[object]) -> list[str]:
    return [key for binding in bindings if isinstance(binding, Binding) for key in binding.key.split(",")]


def test_every_pane_has_a_key_of_its_own_that_a_terminal_can_send() -> None:
    keys = [OVERVIEW_KEY, *(spec.key for spec in PANES)]
    assert all(len(key) == 1 or key in KEY_NAME_REPLACEMENTS.values() for key in keys)
    everywhere = keys_of([*MainScreen.BINDINGS, *DashboardApp.BINDINGS, *CHART_BINDINGS])
    assert sorted(everywhere) == sorted(set(everywhere)) and set(keys) <= set(everywhere)


async def test_every_row_of_the_table_is_a_widget_with_its_id() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert [child.id for child in app.screen.query_one(PaneGrid).children] == [spec.id for spec in PANES]


@pytest.mark.parametrize("size", [(60, 15), (80, 24), (100, 30), (120, 40), (200, 50)])
@pytest.mark.parametrize("spec", PANES, ids=lambda spec: spec.id)
async def test_a_key_shows_its_pane_alone_and_again_the_overview(spec: PaneSpec, size: tuple[int, int]) -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        grid = app.screen.query_one(PaneGrid)
        overview = {pane.id for pane in grid.children if pane.region.area}
        await pilot.press(spec.key)
        await pilot.pause()
        assert {pane.id for pane in grid.children if pane.region.area} == {spec.id}
        assert grid.pane(spec.id).region.size == grid.size
        assert app.focused is not None and app.focused.has_focus
        await pilot.press(spec.key)
        await pilot.pause()
        assert {pane.id for pane in grid.children if pane.region.area} == overview


async def test_one_loss_is_shown_alone() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        video = next(panel for panel in app.screen.query(LossPanel) if panel.component == "video")
        video.focus()
        await pilot.press("z")
        await pilot.pause()
        assert [panel.component for panel in app.screen.query(LossPanel) if panel.region.area] == ["video"]
        await pilot.press("escape")
        await pilot.pause()
        assert len([panel for panel in app.screen.query(LossPanel) if panel.region.area]) == 5


async def test_columns_collapse_and_come_back() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        runs, losses = (app.screen.query_one(f"#{name}") for name in ("runs", "losses"))
        before = losses.region.width
        await pilot.press("b")
        await pilot.pause()
        assert not runs.region.area and losses.region.width > before
        assert app.focused is not None and app.focused.region.area
        await pilot.press("b")
        await pilot.pause()
        assert runs.region.area and losses.region.width == before


async def test_a_focused_pane_looks_different() -> None:
    app = dashboard(fleets.healthy())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        balance = app.screen.query_one("#balance")
        before = balance.styles.border_top, balance.styles.border_title_background
        balance.focus()
        await pilot.pause()
        after = balance.styles.border_top, balance.styles.border_title_background
        assert before[0] != after[0] and before[1] != after[1]
        assert "balance" in "\n".join(screen_text(app))


def test_a_row_is_found_by_its_id() -> None:
    assert pane_spec("alerts").key == "9"
