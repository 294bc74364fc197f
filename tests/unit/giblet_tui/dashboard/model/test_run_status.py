"""Words for the state, phase and progress of a run."""

from __future__ import annotations

from msgspec.structs import replace

from giblet_train.schema.health import Health
from giblet_tui.dashboard.model.run_status import epoch_words, health_now, late_step_words, no_steps_sentence
from giblet_tui.dashboard.style.styles import MUTED
from tests import fleets


def test_a_run_that_ended_does_not_wait_for_a_step() -> None:
    run = replace(fleets.run(steps=0), epochs=(), heartbeat=None)
    assert no_steps_sentence(replace(run, health=Health(state="starting", sentence=""))) == "waiting for the first step"
    assert no_steps_sentence(replace(run, health=Health(state="failed", sentence=""))) == "ended before its first step"
    assert epoch_words(run) == ""


def test_a_run_whose_loop_is_over_has_no_time_left() -> None:
    run = fleets.healthy().runs()[0]
    assert run.eta_s is not None and run.heartbeat is not None
    assert replace(run, heartbeat=replace(run.heartbeat, state="finished")).eta_s is None


def test_a_lost_link_names_the_last_state_of_the_run() -> None:
    fleet = fleets.healthy()
    run = replace(fleet.runs()[0], health=Health(state="unknown", sentence="not heard", since=fleets.NOW - 9))
    node = replace(fleet.nodes[0], link="lost", observed_at=fleets.NOW - 9)
    assert health_now(run, node, fleets.NOW).sentence == "not heard for 9s; it was training"


def test_a_run_that_validates_names_its_phase_and_not_a_missing_step() -> None:
    run = fleets.healthy().runs()[0]
    assert run.heartbeat is not None
    validating = replace(run, heartbeat=replace(run.heartbeat, state="validating"))
    node = fleets.node(runs=(validating,), observed_at=fleets.NOW + 9)
    words = late_step_words(validating, node, fleets.NOW + 9)
    assert words is not None and words.text.startswith("validating, last step ") and words.style == MUTED


def test_the_age_of_a_step_is_shown_from_five_usual_steps_on() -> None:
    run, node = fleets.run(), replace(fleets.node(), facts=fleets.node().facts)
    node = replace(node, facts=replace(node.facts, clock_skew_s=0.0))
    slow = tuple(replace(step, step_s=2.0) for step in run.steps)
    run = replace(run, steps=slow)
    last = slow[-1].at
    for age, late in ((9.0, False), (11.0, True)):
        node_then = replace(node, observed_at=last + age)
        assert (late_step_words(run, node_then, last + age) is not None) == late
