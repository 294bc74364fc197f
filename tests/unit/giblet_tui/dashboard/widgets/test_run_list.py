"""The run list: rows, order, filter, and the choice of a run."""

from __future__ import annotations

from rich.cells import cell_len

from giblet_train.diagnosis.criteria import Verdict
from giblet_tui.dashboard.model.judgement import Judgement
from giblet_tui.dashboard.model.messages import RunChosen
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.run_row import heading, run_row
from giblet_tui.monitor.snapshots import NodeSnapshot, RunSnapshot
from giblet_tui.reporting.formatting import verdict
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


async def test_moving_in_the_list_chooses_the_run() -> None:
    messages: list[object] = []
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40), message_hook=messages.append) as pilot:
        await pilot.pause()
        await pilot.press("g", "j")
        await pilot.pause()
        run_ids = list(dict.fromkeys(m.run_id for m in messages if isinstance(m, RunChosen)))
        assert [run_id[:4] for run_id in run_ids] == ["demo", "flat"]
        assert "flat" in screen_text(app)[0] and "AT RISK" in screen_text(app)[0]
        assert app.screen.query_one("#total", LossPanel).view.run.run.run_id == run_ids[-1]  # type: ignore[union-attr]


def row_of(run: RunSnapshot, width: int, judgement: Verdict | None = None) -> list[str]:
    node = NodeSnapshot(node="tensor01", link="live", observed_at=fleets.NOW, runs=(run,))
    return run_row(run, node, Judgement(judgement), False, fleets.NOW, width, "dark").plain.split("\n")


def test_rows_keep_their_verdict_and_line_up_at_any_width() -> None:
    """A long name is cut before a figure is; a verdict without room for its word keeps its glyph."""
    run = fleets.run("production_500epoch_of_everything")
    judgement = verdict(run)
    assert judgement is not None
    border = 1
    for width in (80, 100, 160):
        assert border + heading(width).plain.index("verdict") == row_of(run, width, judgement)[0].index("›")
        assert "…" in row_of(run, width, judgement)[0]
    for width in (20, 28, 40):
        first, second = row_of(run, width, judgement)
        assert max(map(cell_len, (first, second))) <= width and second == second.rstrip()
        assert second.endswith(judgement.word) == (width > 20)
