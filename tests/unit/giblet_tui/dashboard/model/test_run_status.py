"""Words for the state, phase and progress of a run."""

from __future__ import annotations

from msgspec.structs import replace

from giblet_train.schema.health import Health
from giblet_tui.dashboard.model.run_status import epoch_words, health_now, no_steps_sentence
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
