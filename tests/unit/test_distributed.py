"""Several processes of one run by the real torchrun: the same curve, the same end, one cause when one fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from giblet_train import checkpoint, trainer
from giblet_train.contract.errors import ConfigError
from giblet_train.contract.records import EventMetric, StepMetric
from tests.engine_study import load
from tests.unit.test_trainer import WORKER, heartbeat_of, metrics_of, run_dir_of, wait_for

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "0", "--nproc-per-node"]


def start(run_dir, world_size=2, **environment):
    return subprocess.Popen(
        [*TORCHRUN, str(world_size), str(WORKER), str(run_dir.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_ranks_take_the_steps_of_one(tmp_path, world_size):
    overrides = {"num_epochs": 5, "early_stopping_patience": None, "balance": {"kind": "gradnorm", "every_steps": 4}}
    one = run_dir_of(tmp_path, "one", **overrides)
    trainer.train(one.path, load)
    several = run_dir_of(tmp_path, "several", **overrides, distributed={"world_size": world_size})
    process = start(several, world_size)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    ours, theirs = metrics_of(one, StepMetric), metrics_of(several, StepMetric)
    assert len(ours) == len(theirs) == 50
    for of in (lambda s: s.total, lambda s: s.gradient_norm, lambda s: s.loss["text"]):
        np.testing.assert_allclose([of(s) for s in theirs], [of(s) for s in ours], rtol=1e-4)
    shares = [(a.gradient_share, b.gradient_share) for a, b in zip(ours, theirs, strict=True) if a.gradient_share]
    assert shares and all(b == pytest.approx(a, rel=1e-3) for a, b in shares)
    assert {s.slowest_rank for s in theirs} <= set(range(world_size))


def test_all_ranks_stop_together(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=1000, early_stopping_patience=None, distributed={"world_size": 2})
    process = start(run_dir)
    wait_for(lambda: run_dir.heartbeat.exists() and heartbeat_of(run_dir).step > 3, process)
    run_dir.stop.touch()
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert heartbeat_of(run_dir).state == "stopped"
    assert checkpoint.newest(run_dir.checkpoints).step == heartbeat_of(run_dir).step


def test_one_dead_rank_ends_all_with_the_cause(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=1000, early_stopping_patience=None, distributed={"world_size": 2})
    process = start(run_dir)
    wait_for(lambda: run_dir.heartbeat.exists() and heartbeat_of(run_dir).step > 3, process)
    first = heartbeat_of(run_dir).pid
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [other] = [int(pid) for pid in workers if int(pid) != first and str(run_dir.path) in command_of(pid)]
    os.kill(other, signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1, out
    assert heartbeat_of(run_dir).state == "failed"
    assert "Another process of this run is gone" in heartbeat_of(run_dir).why


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_failure_on_one_rank_ends_all_with_its_cause(tmp_path):
    run_dir = run_dir_of(tmp_path, distributed={"world_size": 2}, learning_rate=0.1, batch_size=2, accumulate_steps=2)
    process = start(run_dir)
    process.communicate(timeout=120)
    assert process.returncode == 1
    assert "batch_size 2 cannot be shared by 2 rank(s)" in heartbeat_of(run_dir).why
    assert [e.name for e in metrics_of(run_dir, EventMetric)][-1] == "failed"


def test_what_the_first_cannot_load_is_said_once_and_in_words(tmp_path):
    run_dir = run_dir_of(tmp_path, distributed={"world_size": 2}, data={"data_dir": "nowhere"})
    command = [*TORCHRUN, "2", "--tee", "3", "--log-dir", str(tmp_path / "ranks"), "-m", "giblet_train", "train"]
    done = subprocess.run([*command, str(run_dir.path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("giblet: ") == 1
    assert "[default0]:giblet: " in done.stdout + done.stderr and "]:Traceback" not in done.stdout + done.stderr
    assert "nowhere" in heartbeat_of(run_dir).why


def test_another_number_of_processes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"world_size is 2, but 1 process"):
        trainer.train(run_dir_of(tmp_path, distributed={"world_size": 2}).path, load)
