"""The hardware pane."""

from __future__ import annotations

import msgspec

from giblet_tui.dashboard.model.gpu_history import EVERY_S
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Tape, dashboard, screen_text, settle


async def test_gpus_show_their_recent_load() -> None:
    tape = Tape()
    app = dashboard(fleets.healthy(), source=tape)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        for look in range(1, 4):
            node = fleets.healthy().nodes[0]
            busy = tuple(msgspec.structs.replace(gpu, utilisation=30.0 * look) for gpu in node.facts.gpus)
            facts = msgspec.structs.replace(node.facts, gpus=busy)
            tape.play(msgspec.structs.replace(node, facts=facts, observed_at=fleets.NOW + look * EVERY_S))
            await settle(pilot)
        await pilot.press("7")
        app.screen.tick()  # type: ignore[attr-defined]
        await pilot.pause()
        rows = [row for row in screen_text(app) if "42/48" in row and "ada 424" in row]
        assert len(rows) == 6 and all("▇▃▅▇" in row and "ada 424" in row for row in rows)
