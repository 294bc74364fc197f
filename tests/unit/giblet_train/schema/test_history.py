"""The history of a resumed run: copied at the resume, or followed through the chain of older runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec.structs import replace

from giblet_train.diagnosis.criteria import verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.monitoring.run_logger import RunLogger
from giblet_train.monitoring.verdict import read_verdict
from giblet_train.schema.health import Health
from giblet_train.schema.history import before_step, latest_epochs, read_history
from giblet_train.schema.records import AnyMetric, EpochMetric, EventMetric, RunMetric, StepMetric
from giblet_train.schema.run_dir import RunDir
from giblet_tui.monitor.resumed import whole_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.why import of_path
from tests import fleets, rundirs

CRITERIA = {
    "drop": {"kind": "loss_drop", "threshold": 0.1},
    "peak": {"kind": "lr_reaches_peak", "threshold": 0.9},
    "improves": {"kind": "validation_improves", "threshold": 0.0},
}
STEP = 200
"""Step of the resume, the end of epoch 10 of 20."""


def parts(tmp_path: Path) -> tuple[RunDir, RunDir, list[AnyMetric]]:
    """Return a run that was stopped after ten epochs, the one that resumed it, and the records of both as one run."""
    config = fleets.demo_config("long", criteria=CRITERIA)
    whole = fleets.run("long", steps=400, state="finished", config=config, suffix="aaaa")
    assert whole.plan_record is not None and whole.heartbeat is not None
    first = replace(
        whole,
        plan_record=replace(whole.plan_record, first_loss={"fmri": 1.0}),
        steps=whole.steps[: STEP + 7],
        epochs=whole.epochs[:10],
        events=(failed(STEP - 1),),
        heartbeat=replace(whole.heartbeat, state="stopped"),
    )
    second = replace(
        whole,
        run=replace(whole.run, run_id="long-20270116-080000-bbbb", resumed_from=whole.run.run_id),
        plan_record=replace(whole.plan_record, resumed_from_step=STEP),
        steps=whole.steps[STEP:],
        epochs=whole.epochs[10:],
        heartbeat=replace(whole.heartbeat, state="finished"),
    )
    return rundirs.write(tmp_path, first), rundirs.write(tmp_path, second), list(whole.metrics)


def failed(step: int) -> EventMetric:
    return EventMetric(seq=0, step=step, epoch=10, at=0.0, name="failed", level="error", sentence="It failed.")


def test_records_after_the_resume_and_the_end_of_the_first_run_are_left_out(tmp_path: Path) -> None:
    first, _, _ = parts(tmp_path)
    records = before_step(read_history(first), STEP)
    assert [s.step for s in records if isinstance(s, StepMetric)] == list(range(STEP))
    assert [e.epoch for e in records if isinstance(e, EpochMetric)] == list(range(1, 11))
    assert not any(isinstance(e, EventMetric) for e in records)


def test_an_old_run_without_copies_is_judged_with_the_run_before_it(tmp_path: Path) -> None:
    _, second, whole = parts(tmp_path)
    history = read_history(second)
    assert [m.seq for m in history] == list(range(len(history)))
    assert [s.step for s in history if isinstance(s, StepMetric)] == list(range(400))
    verdict = read_verdict(second)
    alone = verdict_of(second.read_config(), whole, Health(state="finished", sentence=""))
    assert [(c.name, c.status) for c in verdict.criteria] == [(c.name, c.status) for c in alone.criteria]
    assert verdict.status == "pass"


def test_the_copied_history_survives_a_pull(tmp_path: Path) -> None:
    first, second, _ = parts(tmp_path)
    own = second.metrics.read_bytes()
    second.metrics.unlink()
    logger = RunLogger(second)
    logger.copy_history(first, STEP)
    logger.close()
    second.metrics.write_bytes(second.metrics.read_bytes() + own)
    pulled_dir = RunDir(tmp_path / "elsewhere" / second.run_id)
    shutil.copytree(second.path, pulled_dir.path)
    shutil.rmtree(first.path)
    assert read_verdict(pulled_dir).status == "pass"
    plans = [m for m in read_history(pulled_dir) if isinstance(m, RunMetric)]
    assert (plans[0].first_loss, plans[-1].resumed_from_step) == ({"fmri": 1.0}, STEP)


def test_a_directory_with_records_of_its_own_gets_no_second_copy(tmp_path: Path) -> None:
    first, second, _ = parts(tmp_path)
    before = second.metrics.read_bytes()
    logger = RunLogger(second)
    logger.copy_history(first, STEP)
    logger.close()
    assert second.metrics.read_bytes() == before


def test_a_checkpoint_without_records_is_reported_and_no_error(tmp_path: Path) -> None:
    _, second, _ = parts(tmp_path)
    second.metrics.unlink()
    logger = RunLogger(second)
    logger.copy_history(RunDir(tmp_path / "gone"), STEP)
    logger.close()
    [event] = read_history(second)
    assert isinstance(event, EventMetric) and event.name == "history_missing"


def test_why_judges_a_directory_with_the_run_that_it_resumed_as_verdict_does(tmp_path: Path) -> None:
    _, second, whole = parts(tmp_path)
    answer = of_path(second.path, None)
    alone = diagnose(second.read_config(), whole, health=Health(state="finished", sentence=""))
    assert [c.cause for c in answer.diagnosis.causes] == [c.cause for c in alone.causes] == []


def test_a_node_shows_an_old_run_with_the_records_of_the_run_before_it() -> None:
    whole = fleets.run("long", steps=400, state="finished", config=fleets.demo_config("long", criteria=CRITERIA))
    assert whole.plan_record is not None
    source = f"runs/{whole.run.run_id}/checkpoints/last"
    later = replace(
        whole,
        run=replace(whole.run, run_id="long-20270116-080000-bbbb", resumed_from=source),
        plan_record=replace(whole.plan_record, resumed_from_step=STEP, first_loss={}),
        steps=whole.steps[STEP:],
        epochs=whole.epochs[10:],
    )
    run = whole_run(later, {whole.run.run_id: whole}.get)
    assert [s.step for s in run.steps] == list(range(400)) and run.run == later.run
    assert verdict(run) == verdict(whole) and diagnose(whole.config, run.metrics).healthy
    assert whole_run(later, {}.get) == later
    assert whole_run(
        later, {whole.run.run_id: replace(later, run=replace(later.run, resumed_from=later.run.run_id))}.get
    )


def verdict(run: RunSnapshot) -> list[tuple[str, str]]:
    assert run.config is not None
    result = verdict_of(run.config, run.metrics, run.health)
    return [(criterion.name, criterion.status) for criterion in result.criteria]


def test_epochs_that_a_restart_repeats_count_as_written_last() -> None:
    run = fleets.run("long", steps=400, state="finished")
    again = [replace(e, train=replace(e.train, total=9.0)) for e in run.epochs[10:12]]
    epochs = latest_epochs([*run.epochs[:14], *again])
    assert [e.epoch for e in epochs] == list(range(1, 13)) and epochs[-1].train.total == 9.0
