"""Alerts: raised once a cause stands, cleared once it is gone, silent through a healthy month."""

from __future__ import annotations

from msgspec.structs import replace

from giblet_train.diagnosis.alert_responses import open_alerts
from giblet_train.diagnosis.alerts import AlertState, restore_state, update
from giblet_train.diagnosis.diagnose import Diagnosis, diagnose
from giblet_train.diagnosis.rules.case import Finding
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.records import Alert, AlertResponse, EpochMetric
from tests.collection.faults import flat
from tests.collection.month import healthy_month

WATCH = WatchConfig(raise_looks=2, clear_looks=3)
WELL = Diagnosis()


def sick(name: str = "flat", confidence: float = 0.85) -> Diagnosis:
    cause = Finding(cause=name, confidence=confidence, sentence="It is so.", evidence={"a": 1}, action="Do this.")
    return Diagnosis(causes=(cause,))


def after(*looks: Diagnosis, state: AlertState | None = None) -> tuple[AlertState, list[list[tuple[str, str]]]]:
    """Return what stands after some looks, and what each of them told."""
    state, changes = state or AlertState(), []
    for step, diagnosis in enumerate(looks):
        state, alerts = update(state, diagnosis, WATCH, step, float(step))
        changes.append([(alert.name, alert.state) for alert in alerts])
    return state, changes


def test_one_look_is_not_enough_unless_it_is_certain() -> None:
    assert after(sick())[1] == [[]]
    assert after(sick(), sick(), sick())[1] == [[], [("flat", "raised")], []]
    assert after(sick(), WELL, sick())[1] == [[], [], []]
    assert after(sick("nan", 0.99))[1] == [[("nan", "raised")]]


def test_the_last_look_waits_for_no_other() -> None:
    assert [a.name for a in update(AlertState(), sick("crashed", 0.8), WATCH, 1, 1.0, last=True)[1]] == ["crashed"]
    assert update(AlertState(), sick(confidence=0.42), WATCH, 1, 1.0, last=True)[1] == []


def test_it_is_cleared_only_after_it_has_gone_a_while() -> None:
    _, changes = after(sick(), sick(), WELL, WELL, sick(), WELL, WELL, WELL, WELL)
    assert changes[1] == [("flat", "raised")] and changes[7] == [("flat", "cleared")]
    assert all(not alerts for i, alerts in enumerate(changes) if i not in (1, 7))


def test_what_follows_from_another_cause_raises_nothing() -> None:
    assert after(*[sick(confidence=0.42)] * 5)[1] == [[]] * 5


def test_levels_actions_and_numbers_are_carried() -> None:
    state, alerts = update(AlertState(n_alerts=4), sick("nan", 0.99), WATCH, 77, 5.0)
    assert alerts[0] == Alert(seq=4, at=5.0, step=77, name="nan", level="error", state="raised", sentence="It is so.",
                              action="Do this.", evidence={"a": 1})  # fmt: skip
    assert state.n_alerts == 5


def test_a_watcher_that_starts_again_repeats_nothing() -> None:
    state, alerts = update(AlertState(), sick("nan", 0.99), WATCH, 1, 1.0)
    again = restore_state(alerts)
    assert again.raised == state.raised and again.n_alerts == 1
    assert after(sick("nan", 0.99), state=again)[1] == [[]]


def test_healthy_days_raise_no_alert() -> None:
    """Nights, validation, saving and resumes of the lab's production; the whole month: `python -m benchmarks.month`."""
    curves, metrics, looks = healthy_month(1, epochs=40)
    days = (looks[-1].at - looks[0].at) / 86_400
    assert 2.5 < days < 6.0 and {look.what for look in looks} >= {"validation", "loading after a stop"}
    state = AlertState()
    for i, look in enumerate(looks):
        assert look.health.state in ("running", "starting"), look
        if i % 8 == 0:
            diagnosis = diagnose(curves.config, metrics[: look.n], health=look.health)
            state, alerts = update(state, diagnosis, WATCH, i, look.at)
            assert alerts == []


def test_a_flat_run_raises_one_alert_and_keeps_it() -> None:
    failing = flat(2)
    ends = [i for i, m in enumerate(failing.metrics, 1) if isinstance(m, EpochMetric)]
    all_alerts, state = [], AlertState()
    for end in ends:
        state, alerts = update(state, diagnose(failing.curves.config, failing.metrics[:end]), WATCH, 0, 0.0)
        all_alerts += alerts
    assert [(a.name, a.state) for a in all_alerts if a.name == "flat"] == [("flat", "raised")]


def said(alert: Alert, until: float | None = None) -> AlertResponse:
    return AlertResponse(at=10.0, alert=alert.seq, name=alert.name, until=until)


def test_acknowledged_is_silent_until_raised_again_and_snoozed_until_its_time() -> None:
    first = update(AlertState(), sick("nan", 0.99), WATCH, 1, 1.0)[1][0]
    again = replace(first, seq=2, at=3.0)
    cleared = replace(first, seq=1, state="cleared")
    assert open_alerts([first], [], 5.0) == [first]
    assert open_alerts([first], [said(first)], 5.0) == []
    assert open_alerts([first, cleared], [], 5.0) == []
    assert open_alerts([first, cleared, again], [said(first)], 5.0) == [again]
    assert open_alerts([first, cleared, again], [said(first, until=50.0)], 49.0) == []
    assert open_alerts([first, cleared, again], [said(first, until=50.0)], 50.0) == [again]
    assert open_alerts([again], [said(first, until=50.0), said(again, until=20.0)], 30.0) == [again]
