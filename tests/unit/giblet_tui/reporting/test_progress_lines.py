"""A run in lines: everything once, nothing twice, steps only now and then."""

from __future__ import annotations

import msgspec

from giblet_train.schema.records import EventMetric
from giblet_tui.reporting.progress_lines import STEP_LINE_EVERY_S, ProgressPrinter
from tests import fleets


def test_every_epoch_is_reported_once_and_steps_now_and_then() -> None:
    narrator = ProgressPrinter()
    lines: list[str] = []
    for steps in range(1, 101):
        lines += narrator.new_lines(fleets.run(steps=steps))
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1", "2", "3", "4", "5"]
    told_steps = [line for line in lines if line.startswith("step ")]
    assert 0 < len(told_steps) <= 100 * fleets.STEP_S / STEP_LINE_EVERY_S + 1
    assert all("lr " in line and "(planned " in line and "fmri " in line for line in [*epochs, *told_steps])
    assert narrator.new_lines(fleets.run(steps=100)) == []


def test_states_and_events_are_reported_when_they_come() -> None:
    narrator = ProgressPrinter()
    waiting = msgspec.structs.replace(fleets.run(steps=1, state="starting", sentence="building the store"), steps=())
    assert narrator.new_lines(waiting)[0] == "starting: building the store"
    event = EventMetric(seq=1, step=0, epoch=1, at=fleets.NOW, name="film", level="warning", sentence="film generated")
    assert narrator.new_lines(msgspec.structs.replace(waiting, events=(event,))) == ["warning: film generated"]
    assert narrator.new_lines(msgspec.structs.replace(waiting, events=(event,))) == []
    failed_run = fleets.run(steps=1, state="failed", sentence="audio is not finite")
    assert narrator.new_lines(failed_run)[0] == "failed: audio is not finite"


def test_each_stage_of_loading_is_reported_once() -> None:
    narrator = ProgressPrinter()
    messages: list[str] = []
    for phase in ("making the study", "making the study", "reading sub-01", "reading sub-02"):
        run = fleets.run(steps=1, state="starting", sentence=phase)
        assert run.heartbeat is not None
        heartbeat = msgspec.structs.replace(run.heartbeat, state="loading", phase=phase)
        messages += narrator.new_lines(msgspec.structs.replace(run, steps=(), heartbeat=heartbeat))
    assert messages == ["starting: making the study", "reading sub-01", "reading sub-02"]


def test_epochs_that_end_between_two_looks_are_all_reported_but_not_those_before_the_first() -> None:
    def epochs_told(narrator: ProgressPrinter, steps: int) -> list[str]:
        return [line.split()[1] for line in narrator.new_lines(fleets.run(steps=steps)) if line.startswith("epoch ")]

    early, late = ProgressPrinter(), ProgressPrinter()
    assert epochs_told(early, 1) == []
    assert epochs_told(early, 100) == ["1", "2", "3", "4", "5"]
    assert epochs_told(late, 100) == ["5"]
