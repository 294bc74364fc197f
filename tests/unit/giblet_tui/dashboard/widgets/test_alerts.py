"""Alerts: answered, snoozed, raised again."""

from __future__ import annotations

import msgspec

from giblet_train.schema.records import AlertResponse
from giblet_tui.dashboard.widgets.alerts import Alerts
from giblet_tui.monitor.snapshots import Fleet
from tests import fleets
from tests.unit.giblet_tui.dashboard.driver import Clock, Recorder, Tape, dashboard, screen_text, settle


async def test_an_acknowledged_alert_is_silent_until_it_is_raised_again() -> None:
    tape, actions, alert = Tape(), Recorder(), fleets.alert(sentence="total moved 0.05 %")
    run = fleets.run(alerts=(alert,))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)), source=tape, actions=actions)
    async with app.run_test(size=(200, 50)) as pilot:
        await pilot.pause()
        rows = screen_text(app)
        assert "▲ flat: total moved" in rows[1] and "giblet why @last" in rows[1] and "A seen  Z snooze" in rows[1]
        await pilot.press("A", "Z")
        await settle(pilot)
        assert actions.answered == [(run.run.run_id, None), (run.run.run_id, 8 * 3600)]
        answer = AlertResponse(at=fleets.NOW, alert=alert.seq, name="flat", by="ada@laptop")
        tape.play(fleets.node(runs=(msgspec.structs.replace(run, answers=(answer,)),)))
        await settle(pilot)
        text = "\n".join(screen_text(app))
        assert "▲" not in text and "✓ seen by ada@laptop  flat" in text and "0 open, 1 answered" in text
        again = msgspec.structs.replace(alert, seq=7)
        tape.play(fleets.node(runs=(msgspec.structs.replace(run, answers=(answer,), alerts=(alert, again)),)))
        await settle(pilot)
        assert "▲ flat: total moved" in screen_text(app)[1]


async def test_a_snooze_ends_by_time_alone() -> None:
    clock = Clock()
    answer = AlertResponse(at=fleets.NOW, alert=0, name="flat", until=fleets.NOW + 4)
    run = msgspec.structs.replace(fleets.run(alerts=(fleets.alert(),)), answers=(answer,))
    app = dashboard(Fleet(nodes=(fleets.node(runs=(run,)),)), clock=clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert "▲" not in "\n".join(screen_text(app))
        clock.now += 3.5
        app.screen.tick()  # type: ignore[attr-defined]
        await settle(pilot)
        assert "▲ flat" in screen_text(app)[1]


async def test_the_evidence_of_an_alert_is_in_words() -> None:
    evidence = {"loss_drop": {"status": "fail", "needed": 0.1, "seen": None}, "epochs": [3, 4]}
    alert = msgspec.structs.replace(fleets.alert("criterion_missed"), evidence=evidence)
    app = dashboard(Fleet(nodes=(fleets.node(runs=(fleets.run(alerts=(alert,)),)),)))
    async with app.run_test(size=(200, 50)) as pilot:
        await settle(pilot)
        pane = app.screen.query_one(Alerts)
        lines = "\n".join(str(line) for line in pane.render_lines_for(150, 8))
        assert "(loss_drop status fail, needed 0.1, seen unknown, epochs [3, 4])" in lines
