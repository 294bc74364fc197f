"""The loss panels of a run with any components."""

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from textual.geometry import Region, Size

from giblet_tui.dashboard.style.styles import Palette, line_colors, sample
from giblet_tui.dashboard.widgets.chart_group import PANEL_CELLS, PANEL_ROWS, panel_regions
from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text, settle


def with_components(run: RunSnapshot, names: dict[str, str]) -> RunSnapshot:
    """Return the run with other names for its components, as records of another feature set have them."""

    def renamed(values: dict[str, float | None]) -> dict[str, float | None]:
        return {names.get(name, name): value for name, value in values.items()}

    steps = tuple(
        replace(step, loss=renamed(step.loss), weight=renamed(step.weight), share=renamed(step.share))
        for step in run.steps
    )
    epochs = tuple(replace(e, train=replace(e.train, loss=renamed(e.train.loss)), validation=None) for e in run.epochs)
    return replace(run, config=None, steps=steps, epochs=epochs)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_panels_balance_and_help_follow_the_components_of_the_run(size: tuple[int, int]) -> None:
    run = with_components(fleets.run(), {"video": "clip-l14", "audio": "whisper"})
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        tape.play(fleets.node(runs=(run,)))
        await settle(pilot)
        await settle(pilot)
        names = [panel.component for panel in app.screen.query(LossPanel)]
        assert names == ["total", "fmri", "clip-l14", "whisper", "text"]
        rows = str(app.screen.query_one(Balance).render())
        assert "clip-l14"[:5] in rows and "whisper"[:5] in rows and "video" not in rows
        screen_text(app)
        await pilot.press("question_mark")
        await pilot.pause()
        assert "clip-l14" in str(app.screen.query_one("#help Static").render())  # type: ignore[attr-defined]


async def test_a_study_without_annotations_shows_no_panel_and_no_nan_for_the_text() -> None:
    full = fleets.run()

    def without_text(values: dict[str, float | None]) -> dict[str, float | None]:
        return {name: value for name, value in values.items() if name != "text"}

    steps = tuple(
        replace(s, loss=without_text(s.loss), weight=without_text(s.weight), share=without_text(s.share))
        for s in full.steps
    )
    epochs = tuple(replace(e, train=replace(e.train, loss=without_text(e.train.loss))) for e in full.epochs)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(replace(full, steps=steps, epochs=epochs),)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        assert [panel.component for panel in app.screen.query(LossPanel)] == ["total", "fmri", "video", "audio"]
        assert re.findall(r"\bnan\b", "\n".join(screen_text(app)), re.I) == []


async def test_the_curves_of_other_components_are_drawn() -> None:
    run = with_components(fleets.run(), {"video": "pose"})
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        panel = next(p for p in app.screen.query(LossPanel) if p.component == "pose")
        assert any(run.style == "pose train" for row in panel._rows for run in row)


def test_colours_and_dashes_follow_from_the_position() -> None:
    components = tuple(f"c{i}" for i in range(12))
    for palette in get_args(Palette):
        colors = line_colors(components, palette)
        first = [colors[f"{name} train"] for name in components[:7]]
        assert len(set(first)) == 7 and colors["c7 train"] == colors["c0 train"]
    assert sample("c0", components) != sample("c1", components) and sample("total", components) == "━━"


@given(st.integers(1, 20), st.integers(1, 300), st.integers(1, 100))
def test_panels_fill_the_room_without_overlap(n_panels: int, width: int, height: int) -> None:
    regions = panel_regions(n_panels, Size(width, height))
    room = Region(0, 0, width, height)
    assert all(region in room for region in regions)
    assert not any(a.overlaps(b) for i, a in enumerate(regions) for b in regions[:i])
    if len(regions) > 1:
        assert len(regions) == n_panels
        assert all(region.width >= PANEL_CELLS - 1 and region.height >= PANEL_ROWS for region in regions)
