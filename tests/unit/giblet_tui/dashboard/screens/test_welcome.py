"""The page for a fleet without runs."""

from __future__ import annotations

from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from tests.unit.giblet_tui.dashboard.driver import dashboard, screen_text


async def test_nodes_without_a_cache_are_named_while_they_are_asked() -> None:
    fleet = Fleet(nodes=(NodeSnapshot(node="tensor01", link="connecting"),))
    app = dashboard(fleet)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "Asking the nodes for their runs." in text and "◐ connecting" in text
        assert "No node is known" not in text and "No run on any node" not in text
