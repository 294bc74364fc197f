"""The hardware pane."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from giblet_tui.dashboard.model.gpu_history import EVERY_S
from giblet_tui.monitor.snapshots import Fleet
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


async def test_the_columns_of_gpus_have_names() -> None:
    app = dashboard(fleets.healthy())
    for size in ((80, 24), (120, 40)):
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await pilot.press("7")
            await pilot.pause()
            rows = screen_text(app)
            (heading,) = [row for row in rows if "memory GiB" in row]
            gpu = next(row for row in rows if "42/48" in row)
            assert heading.index("load") + len("load") == gpu.index("96%") + len("96%")
            assert heading.index("temp") + len("temp") == gpu.index("71°") + len("71°")
        app = dashboard(fleets.healthy())


async def test_a_gpu_that_the_launcher_refuses_is_not_shown_as_free() -> None:
    node = fleets.node(runs=(fleets.run(),), gpus=1)
    gpu = replace(node.facts.gpus[0], processes=(), not_free="38.0 GiB in use")
    app = dashboard(Fleet(nodes=(replace(node, facts=replace(node.facts, gpus=(gpu,))),)))
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        text = "\n".join(screen_text(app))
        assert "38.0 GiB in use" in text and "0/1 free" in text
