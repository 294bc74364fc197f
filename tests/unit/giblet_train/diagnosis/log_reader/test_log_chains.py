"""Logs of several starts of one training: a resumed training is judged as a whole, wherever its starts wrote."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_parser import read_log
from giblet_train.schema.history import latest_epochs
from giblet_train.schema.records import EpochMetric, decode_metrics
from giblet_tui.agent.followed_log import FollowedLog, epoch_record
from tests.collection.log_ends import OOM, epochs, traceback

PREEMPTED = "slurmstepd: error: *** JOB 608 ON gpu01 CANCELLED AT 2025-11-05T10:00:00 DUE TO PREEMPTION ***"
DEATH = traceback(OOM)
CHAINS: dict[str, tuple[dict[str, list[str]], str]] = {
    "jobs": ({"slurm-1001.out": [*epochs(1, 18), PREEMPTED], "slurm-1002.out": epochs(17, 50)}, ""),
    "streams": (
        {
            "slurm-1001.out": epochs(1, 18),
            "slurm-1001.err": [PREEMPTED],
            "slurm-1002.out": epochs(17, 30),
            "slurm-1002.err": DEATH,
        },
        "oom_gpu",
    ),
    "rotated": ({"train.log.2": epochs(1, 10), "train.log.1": epochs(11, 20), "train.log": epochs(21, 50)}, ""),
    "last_one_died": ({"a.log": epochs(1, 20), "b.log": [*epochs(21, 30), *DEATH]}, "oom_gpu"),
    "attempts": (
        {
            "run/attempt_0/0/stderr.log": [*epochs(1, 20), *DEATH],
            "run/attempt_0/1/stderr.log": DEATH,
            "run/attempt_1/0/stderr.log": epochs(19, 50),
            "run/attempt_1/1/stderr.log": [],
        },
        "",
    ),
}
"""Kind -> (files of a folder, cause to be named)."""


def write(folder: Path, files: dict[str, list[str]]) -> Path:
    for name, lines in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize("kind", CHAINS)
def test_logs_of_successive_starts_are_judged_as_one_training(kind: str, tmp_path: Path) -> None:
    files, cause = CHAINS[kind]
    log = read_log(write(tmp_path, files))
    last = 30 if cause else 50
    assert [m.epoch for m in log.metrics] == list(range(1, last + 1))
    assert any(note.startswith("It was resumed: ") for note in log.notes)
    assert [c.cause for c in diagnose(None, log.metrics, log=log.log).causes][:1] == ([cause] if cause else [])


def test_two_logs_of_the_same_epochs_are_no_chain(tmp_path: Path) -> None:
    rows = [f"{e},{1.5 * 0.93**e:.4f}" for e in range(20)]
    log = read_log(write(tmp_path, {"console.log": epochs(1, 20), "history.csv": ["epoch,loss", *rows]}))
    assert log.log.n_logs == 1 and len(log.metrics) == 20


def test_a_followed_log_with_a_restart_is_judged_like_the_log_itself(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    path.write_text("\n".join([*epochs(1, 20), *DEATH, "resuming from epoch 15", *epochs(15, 50)]) + "\n")
    rows = FollowedLog(path).new_epochs(ended=True)
    lines = [epoch_record(row, seq, 0.0) for seq, row in enumerate(rows)]
    assert [row.epoch for row in rows][17:20] == [18, 19, 15]
    records, _ = decode_metrics([msgspec.json.encode(line) for line in lines])
    whole = latest_epochs(m for m in records if isinstance(m, EpochMetric))
    assert [m.epoch for m in whole] == [m.epoch for m in read_log(path).metrics] == list(range(1, 51))
    assert diagnose(None, records).healthy
