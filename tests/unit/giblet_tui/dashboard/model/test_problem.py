"""The problem bar has the present sentence of a cause; the alert it was raised with is history."""

from giblet_train.diagnosis.rules.case import Finding
from giblet_train.schema.health import Health
from giblet_tui.dashboard.model.judgement import Judgement, JudgementCache
from giblet_tui.dashboard.model.problem import current_sentence
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.monitor.metric_columns import StepColumns
from tests import fleets

NOW = fleets.NOW + 1
RUNNING = Health(state="running", sentence="training")


def view(judgement: Judgement) -> RunView:
    run = fleets.run(alerts=(fleets.alert(),))
    node = fleets.node(runs=(run,))
    return RunView(run=run, node=node, curves=StepColumns().curves((), ()), judgement=judgement)


def test_a_cause_that_still_holds_has_its_present_sentence_and_remedy() -> None:
    finding = Finding(cause="flat", confidence=0.9, sentence="moved 0.01 %", evidence={}, action="stop")
    run_view = view(Judgement(causes={"flat": finding}))
    alert = run_view.run.alerts[0]
    assert current_sentence(alert, run_view, RUNNING, NOW) == ("moved 0.01 %", "stop")


def test_a_cause_that_no_longer_holds_is_dated() -> None:
    run_view = view(Judgement())
    sentence, remedy = current_sentence(run_view.run.alerts[0], run_view, RUNNING, NOW)
    assert sentence == "total moved 0.05 % in 5 epochs (raised 31s ago)" and remedy == "giblet why @last"


def test_without_news_the_sentence_is_dated() -> None:
    finding = Finding(cause="flat", confidence=0.9, sentence="now", evidence={}, action="stop")
    run_view = view(Judgement(causes={"flat": finding}))
    unknown = Health(state="unknown", sentence="not heard")
    assert "(raised 31s ago)" in current_sentence(run_view.run.alerts[0], run_view, unknown, NOW)[0]


def test_causes_are_looked_for_while_an_alert_is_active_and_at_most_every_few_seconds() -> None:
    time = [0.0]
    judge = JudgementCache(clock=lambda: time[0])
    quiet, loud = fleets.run(suffix="aaaa", flat=True), fleets.run(suffix="bbbb", flat=True, alerts=(fleets.alert(),))
    first = judge.judgements(fleets.node(runs=(quiet, loud)))
    assert first[quiet.run.run_id].causes == {} and "flat" in first[loud.run.run_id].causes
    longer = fleets.run(suffix="bbbb", flat=True, alerts=(fleets.alert(),), steps=300)
    time[0] = 2.0
    assert judge.judgements(fleets.node(runs=(longer,)))[loud.run.run_id].causes is first[loud.run.run_id].causes
    time[0] = 6.0
    later = judge.judgements(fleets.node(runs=(longer,)))[loud.run.run_id].causes
    assert later is not first[loud.run.run_id].causes
