"""Kills of a trainer: at the points where a checkpoint is written, and at random moments."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from giblet_train.schema.config import dump
from giblet_train.schema.records import EpochMetric, decode_metrics
from giblet_train.schema.run_dir import RunDir

POINTS = ("checkpoint-written", "checkpoint-synced", "checkpoint-renamed", "checkpoint-recorded", "checkpoint-retired")
N_EPOCHS = 4


def kill_points(count: int, chance: random.Random, folder: Path) -> tuple[str, bool]:
    """Train, kill, resume and compare with the run that was never killed."""
    straight = _new_run(folder, "straight")
    _await(_train(straight))
    whole = straight.metrics.stat().st_size
    straight_weights = _weights(straight)
    n_killed = n_wrong = most_lost = 0
    for kill in range(count):
        run_dir = _new_run(folder, f"killed-{kill}")
        if kill % 2 == 0:
            signalled = _await(_train(run_dir, crash_at=POINTS[kill // 2 % len(POINTS)]))
        else:
            signalled = _killed_at(_train(run_dir), run_dir.metrics, int(chance.random() * whole))
        n_killed += signalled == -signal.SIGKILL
        most_lost = max(most_lost, _epochs_recorded(run_dir) - _epoch_of_checkpoint(run_dir))
        n_wrong += _await(_train(run_dir)) != 0 or _weights(run_dir) != straight_weights
    sentence = f"{n_killed} killed in time; {n_wrong} not resumed to equal bits; epochs lost: {most_lost} at most"
    return sentence, n_wrong == 0 and most_lost <= 1


def _new_run(folder: Path, name: str) -> RunDir:
    from tests.engine_study import config

    run_dir = RunDir(folder / "runs" / name)
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config(num_epochs=N_EPOCHS, steps_per_epoch=4, save_every=1)))
    return run_dir


def _train(run_dir: RunDir, crash_at: str = "") -> int:
    """Train in a child that has torch loaded already; its pid."""
    from giblet_train.training import process as train_process  # before the fork, so that it is paid for once
    from tests.engine_study import load

    process = os.fork()
    if process:
        return process
    code = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.environ["GIBLET_CRASH_AT"] = crash_at
        code = train_process.train(run_dir.path, load)
    except BaseException as error:  # the parent must get an exit code, whatever fails here
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _killed_at(process: int, metrics: Path, size: int) -> int:
    """Kill a trainer as soon as its records have a size, or before there are any; how it ended."""
    while not (ended := os.waitpid(process, os.WNOHANG))[0]:
        if (metrics.stat().st_size if metrics.exists() else 0) >= size:
            os.kill(process, signal.SIGKILL)
            return _await(process)
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1])


def _await(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _weights(run_dir: RunDir) -> dict[str, bytes]:
    from giblet_train.training import checkpoint_files

    record = checkpoint_files.newest(run_dir.checkpoints)
    assert record is not None, "a run that has ended has a checkpoint"
    saved = checkpoint_files.read(run_dir.checkpoints, record)
    return {name: tensor.numpy().tobytes() for name, tensor in saved.tensors.items()}


def _epochs_recorded(run_dir: RunDir) -> int:
    lines = run_dir.metrics.read_bytes().splitlines() if run_dir.metrics.exists() else []
    return max([metric.epoch for metric in decode_metrics(lines)[0] if isinstance(metric, EpochMetric)], default=0)


def _epoch_of_checkpoint(run_dir: RunDir) -> int:
    from giblet_train.training import checkpoint_files

    record = checkpoint_files.newest(run_dir.checkpoints) if run_dir.checkpoints.is_dir() else None
    return record.epoch if record else 0
