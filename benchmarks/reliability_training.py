"""Kills of a trainer: at the points where a checkpoint is written, and at random moments."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
from pathlib import Path

from benchmarks.reliability_page import Numbers, Outcome
from giblet_train.schema.config import dump
from giblet_train.schema.records import EpochMetric, decode_metrics
from giblet_train.schema.run_dir import RunDir

POINTS = ("checkpoint-written", "checkpoint-synced", "checkpoint-renamed", "checkpoint-recorded", "checkpoint-retired")
N_EPOCHS = 4


def kill_points(count: int, chance: random.Random, folder: Path) -> Numbers:
    """Train, kill, resume and compare with the run that was never killed."""
    straight = _new_run(folder, "straight")
    _, usage = _await(_train(straight))
    whole_s = usage.ru_utime + usage.ru_stime
    straight_weights = _weights(straight)
    numbers: Numbers = {"killed": [], "unequal": [], "lost": []}
    for kill in range(count):
        run_dir = _new_run(folder, f"killed-{kill}")
        if kill % 2 == 0:
            code, _ = _await(_train(run_dir, crash_at=POINTS[kill // 2 % len(POINTS)]))
        else:
            code, _ = _await(_train(run_dir, killed_after_s=max(0.001, chance.random() * whole_s)))
        numbers["killed"].append(code in (-signal.SIGKILL, -signal.SIGPROF))
        numbers["lost"].append(max(0, _epochs_recorded(run_dir) - _epoch_of_checkpoint(run_dir)))
        numbers["unequal"].append(_await(_train(run_dir))[0] != 0 or _weights(run_dir) != straight_weights)
        shutil.rmtree(run_dir.path)
    return numbers


def judge_kills(numbers: Numbers) -> Outcome:
    """Check that each killed run is resumed to the same bits and loses one epoch at most."""
    unequal, most_lost = int(sum(numbers["unequal"])), int(max(numbers["lost"]))
    kill_count = f"{int(sum(numbers['killed']))} killed before their end"
    sentence = f"{kill_count}; {unequal} not resumed to equal bits; at most {most_lost} epochs lost"
    return sentence, unequal == 0 and most_lost <= 1


def _new_run(folder: Path, name: str) -> RunDir:
    from tests.engine_study import config

    run_dir = RunDir(folder / "runs" / name)
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config(num_epochs=N_EPOCHS, steps_per_epoch=4, save_every=1)))
    return run_dir


def _train(run_dir: RunDir, crash_at: str = "", killed_after_s: float = 0.0) -> int:
    """Train in a child that has torch loaded already; its pid.

    killed_after_s: CPU seconds after which the kernel ends it (SIGPROF, which nothing handles), so that the moment lies
    before its end on a busy machine too. 0: never.
    """
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
        signal.setitimer(signal.ITIMER_PROF, killed_after_s)
        code = train_process.train(run_dir.path, load)
    except BaseException as error:  # the parent must get an exit code, whatever fails here
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def _await(process: int) -> tuple[int, resource.struct_rusage]:
    """Wait for a child; its exit code, negative for a signal, and what it used."""
    _, status, usage = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), usage


def _weights(run_dir: RunDir) -> dict[str, bytes]:
    from giblet_train.training import checkpoint_files

    record = checkpoint_files.newest(run_dir.checkpoints)
    assert record is not None, "a run that has ended has a checkpoint"
    checkpoint = checkpoint_files.read(run_dir.checkpoints, record)
    return {name: tensor.numpy().tobytes() for name, tensor in checkpoint.tensors.items()}


def _epochs_recorded(run_dir: RunDir) -> int:
    lines = run_dir.metrics.read_bytes().splitlines() if run_dir.metrics.exists() else []
    return max([metric.epoch for metric in decode_metrics(lines)[0] if isinstance(metric, EpochMetric)], default=0)


def _epoch_of_checkpoint(run_dir: RunDir) -> int:
    from giblet_train.training import checkpoint_files

    record = checkpoint_files.newest(run_dir.checkpoints) if run_dir.checkpoints.is_dir() else None
    return record.epoch if record else 0
