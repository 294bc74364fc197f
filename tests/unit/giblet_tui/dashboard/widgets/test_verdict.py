"""The verdict pane."""

from __future__ import annotations

from textual.content import Content

from giblet_tui.dashboard.style.styles import MUTED
from giblet_tui.dashboard.widgets.run_list import RunList
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import dashboard


async def test_a_run_without_news_has_no_verdict_word() -> None:
    app = dashboard(fleets.several())
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        runs = app.screen.query_one(RunList)
        for run in app.fleet.runs():
            row = runs.get_option(run.run.run_id).prompt
            assert isinstance(row, Content)
            doubtful = run.run.name in ("deep", "far")
            word = next((w for w in ("PASS", "FAIL", "AT RISK", "ON TRACK", "?") if w in row.plain), row.plain[-1])
            words = row.plain.rindex(word)
            styles = {str(span.style) for span in row.spans if span.start <= words < span.end}
            assert (styles == {MUTED}) == doubtful, (run.run.name, styles)
