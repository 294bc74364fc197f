"""What is at stake: steps that no checkpoint holds, and the disk that a run will fill."""

from __future__ import annotations

import pytest

from giblet_train.diagnosis.unsaved_work import disk_full_in_s, unsaved_work
from giblet_train.schema.config import Config
from giblet_train.schema.disk_usage import GIB
from giblet_train.schema.records import CheckpointRecord, StepMetric
from giblet_tui.reporting.formatting import stakes_lines
from tests import fleets

CONFIG = Config(name="a", keep_checkpoints=3, save_every=1)


def steps(n: int, step_s: float = 2.0) -> list[StepMetric]:
    return [
        StepMetric(seq=i, step=i, epoch=1, at=i * step_s, lr=1e-3, total=1.0, loss={}, weight={}, share={}, step_s=1.5)
        for i in range(n)
    ]


def saved(*at: int) -> list[CheckpointRecord]:
    return [
        CheckpointRecord(
            file=f"step-{s}",
            step=s,
            epoch=1,
            at=0.0,
            sha256="",
            bytes=GIB,
            config_hash="",
            store_key="",
            roles=("last",),
        )
        for s in at
    ]


def test_what_no_checkpoint_holds_is_lost_at_its_own_pace() -> None:
    lost = unsaved_work(steps(50), saved(20, 40))
    assert lost is not None and (lost.steps, lost.since, lost.seconds) == (10, 40, pytest.approx(20.0))
    assert lost.sentence == "killed now, 10 steps would be lost (20s), since step 40"
    none = unsaved_work(steps(50), [])
    assert none is not None and none.steps == 50 and "no checkpoint yet" in none.sentence
    assert unsaved_work([], saved(20)) is None


def full_in(free_gib: float, n_saved: int = 1, total: int = 1000) -> float | None:
    return disk_full_in_s(CONFIG, steps(50), saved(*range(n_saved)), 20, total, free_gib)


def test_the_disk_fills_as_checkpoints_come_until_old_ones_go() -> None:
    assert full_in(free_gib=6.0) is None  # four more will be kept, and one stands aside
    # Two fit beside the one that is being written: 40 steps of 2 s, and a little less for the records.
    assert full_in(free_gib=3.0) == pytest.approx(80.0, rel=0.05)
    assert full_in(free_gib=0.5) == 0.0
    assert full_in(free_gib=1.5, n_saved=5) is None  # as many as will ever be
    assert disk_full_in_s(CONFIG, steps(50), [], 20, 1000, 0.0) is None


def test_a_living_run_reports_its_stakes_and_an_ended_one_has_none() -> None:
    lines = stakes_lines(fleets.run(), 1e9)
    assert "in four cases of five" in lines[0] and "no checkpoint yet" in lines[1] and len(lines) == 2
    assert stakes_lines(fleets.run(state="finished"), 0.0) == []
