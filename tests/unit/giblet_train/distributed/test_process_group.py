"""Several processes of one run: the same curve, the same end, one cause when one fails.

The real torchrun starts them where the end of a run is the subject, and in one case of each other subject.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.errors import ConfigError, Preempted, RunFailed
from giblet_train.schema.records import EpochMetric, EvaluationMetric, EventMetric, RunMetric, StepMetric
from giblet_train.training import checkpoint_files
from giblet_train.training import process as trainer
from tests.cluster.nodes import free_port, worker_network
from tests.engine_study import load
from tests.fork_server import engine_server
from tests.paths import ENGINE_WORKER
from tests.unit.giblet_train.training.test_trainer import (
    heartbeat_of,
    metrics_of,
    run_dir_of,
    wait_for,
    weights_of,
)

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "0", "--nproc-per-node"]


def start(run_dir, world_size=2, **environment):
    """Start a run by torchrun."""
    return subprocess.Popen(
        [*TORCHRUN, str(world_size), str(ENGINE_WORKER), str(run_dir.path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_ranks(run_dir, world_size=2, **environment):
    """Start a run as torchrun does, but by forking: nothing is imported."""
    address = f"{worker_network()}.1"
    common = {"MASTER_ADDR": address, "MASTER_PORT": str(free_port(address)), **environment}
    common |= {"WORLD_SIZE": str(world_size), "LOCAL_WORLD_SIZE": str(world_size)}
    environments = [os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world_size)]
    return engine_server().start([str(run_dir.path)], environments)


def overrides_of(compress, loss="mse"):
    return {
        "num_epochs": 5,
        "save_every": 1,
        "early_stopping_patience": None,
        "balance": {"kind": "gradnorm", "every_steps": 4},
        "model": {"compress": compress},
        "fmri_loss_type": loss,
    }


# Of three subjects, the fourth rank owns none. The rest of what may be asked for takes minutes: `make test-ranks`.
CASES = [(2, "joint", "mse"), (4, "per_subject", "mse"), (2, "none", "mse")]
ALL = [
    (2, "none", "mae"),
    (2, "none", "correlation"),
    (4, "none", "mse"),
    (4, "none", "mae"),
    (2, "per_subject", "mse"),
]


@pytest.fixture(scope="module")
def runs_of(tmp_path_factory):
    """Return (world_size, compress, loss) -> a run by one process, and the same by several; each made once.

    The first case is started by torchrun.
    """
    pairs = {}

    def runs(world_size, compress, loss):
        if (world_size, compress, loss) not in pairs:
            folder, overrides = tmp_path_factory.mktemp("work"), overrides_of(compress, loss)
            single = run_dir_of(folder, "one", **overrides)
            trainer.train(single.path, load)
            several = run_dir_of(folder, "several", **overrides, distributed={"world_size": world_size})
            by_torchrun = (world_size, compress, loss) == CASES[0]
            process = start(several, world_size) if by_torchrun else start_ranks(several, world_size)
            out, _ = process.communicate(timeout=300)
            assert process.returncode == 0, out
            pairs[world_size, compress, loss] = single, several
        return pairs[world_size, compress, loss]

    return runs


@pytest.mark.parametrize(
    ("world_size", "compress", "loss"), [*CASES, *(ALL if os.environ.get("GIBLET_TEST_RANKS") else [])]
)
def test_several_ranks_take_the_steps_of_one(runs_of, world_size, compress, loss):
    single, several = runs_of(world_size, compress, loss)
    ours, theirs = metrics_of(single, StepMetric), metrics_of(several, StepMetric)
    assert len(ours) == len(theirs) == 50
    close(ours, theirs)
    shares = [(a.gradient_share, b.gradient_share) for a, b in zip(ours, theirs, strict=True) if a.gradient_share]
    assert shares and all(b == pytest.approx(a, rel=1e-3) for a, b in shares)
    assert {s.slowest_rank for s in theirs} <= set(range(world_size))
    [plan], [parallel_plan] = metrics_of(single, RunMetric), metrics_of(several, RunMetric)
    assert parallel_plan.heads == ("replicated" if compress == "joint" else "sharded")
    assert parallel_plan.n_parameters == plan.n_parameters
    assert parallel_plan.first_loss == pytest.approx(plan.first_loss, rel=1e-5)
    for a, b in zip(metrics_of(single, EpochMetric), metrics_of(several, EpochMetric), strict=True):
        assert (b.validation.total, b.fmri_r) == pytest.approx((a.validation.total, a.fmri_r), rel=1e-4)
    evaluation, same = metrics_of(single, EvaluationMetric)[0], metrics_of(several, EvaluationMetric)[0]
    figures = {name: figure for name, figure in evaluation.encoding.items() if figure is not None}
    assert {name: same.encoding[name] for name in figures} == pytest.approx(figures, rel=1e-3, abs=1e-5)
    assert same.decoding["measured"]["video"] == pytest.approx(evaluation.decoding["measured"]["video"], rel=1e-3)
    [minute_one] = [e.sentence for e in metrics_of(several, EventMetric) if e.name == "minute_one"]
    assert "one batch, 10 times" in minute_one


def close(ours, theirs):
    """Compare totals, every loss and the norm that clipping uses, step by step."""
    for of in (lambda s: s.total, lambda s: s.gradient_norm, *(lambda s, c=c: s.loss[c] for c in ours[0].loss)):
        np.testing.assert_allclose([of(s) for s in theirs], [of(s) for s in ours], rtol=1e-4)


def test_sharded_and_killed_it_continues_with_the_same_bits_and_on_fewer_ranks_within_rounding(tmp_path, runs_of):
    single, straight = runs_of(2, "none", "mse")
    broken_run = run_dir_of(tmp_path, "broken", **overrides_of("none"), distributed={"world_size": 2})
    # Rank 1 asks to leave in mid-epoch, and rank 0 dies right after the checkpoint that follows.
    process = start_ranks(broken_run, GIBLET_LEAVE_AT="13", GIBLET_CRASH_AT="checkpoint-retired")
    process.communicate(timeout=300)
    assert process.returncode != 0
    assert checkpoint_files.newest(broken_run.checkpoints).step == 14
    alone = run_dir_of(tmp_path, "alone", **overrides_of("none"), resume_from="broken")
    assert trainer.train(alone.path, load) == 0
    process = start_ranks(broken_run)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    ours, theirs = weights_of(straight, 50), weights_of(broken_run, 50)
    assert "optimizer.model.heads.parts.sub-02:exp_avg" in ours
    assert [n for n in ours if not torch.equal(ours[n], theirs[n])] == []
    assert set(ours) == set(theirs) == set(weights_of(alone, 50)) == set(weights_of(single, 50))
    close(metrics_of(single, StepMetric)[14:], metrics_of(alone, StepMetric)[14:])  # its history is copied
    [event] = [e.sentence for e in metrics_of(alone, EventMetric) if e.name == "resumed"]
    assert "It ran on 2 rank(s)" in event and "within rounding" in event


def test_all_ranks_stop_together(tmp_path):
    run_dir = run_dir_of(tmp_path, num_epochs=1000, early_stopping_patience=None, distributed={"world_size": 2})
    process = start_ranks(run_dir)
    wait_for(lambda: run_dir.heartbeat.exists() and heartbeat_of(run_dir).step > 3, process)
    run_dir.stop.touch()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert heartbeat_of(run_dir).state == "stopped"
    assert checkpoint_files.newest(run_dir.checkpoints).step == heartbeat_of(run_dir).step


def test_one_dead_rank_ends_all_with_the_cause(tmp_path):
    run_dir = run_dir_of(tmp_path, **overrides_of("per_subject") | {"num_epochs": 1000}, distributed={"world_size": 2})
    process = start(run_dir)
    wait_for(lambda: run_dir.heartbeat.exists() and heartbeat_of(run_dir).step > 3, process)
    first = heartbeat_of(run_dir).pid
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    [other] = [int(pid) for pid in workers if int(pid) != first and str(run_dir.path) in command_of(pid)]
    os.kill(other, signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, out
    assert heartbeat_of(run_dir).state == "failed"
    assert "Another process of this run is gone" in heartbeat_of(run_dir).why


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_a_failure_on_one_rank_ends_all_with_its_cause(tmp_path):
    run_dir = run_dir_of(tmp_path, distributed={"world_size": 2}, learning_rate=0.1, batch_size=2, accumulate_steps=2)
    process = start(run_dir)
    process.communicate(timeout=300)
    assert process.returncode == 1
    assert "batch_size 2 cannot be shared by 2 rank(s)" in heartbeat_of(run_dir).why
    assert [e.name for e in metrics_of(run_dir, EventMetric)][-1] == "failed"


def test_what_the_first_cannot_load_is_reported_once_and_in_words(tmp_path):
    run_dir = run_dir_of(tmp_path, distributed={"world_size": 2}, data={"data_dir": "nowhere"})
    command = [*TORCHRUN, "2", "--tee", "3", "--log-dir", str(tmp_path / "ranks"), "-m", "giblet_train", "train"]
    result = subprocess.run([*command, str(run_dir.path)], capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert (result.stdout + result.stderr).count("giblet: ") == 1
    assert "[default0]:giblet: " in result.stdout + result.stderr and "]:Traceback" not in result.stdout + result.stderr
    assert "nowhere" in heartbeat_of(run_dir).why


def test_another_number_of_processes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"world_size is 2, but 1 process"):
        trainer.train(run_dir_of(tmp_path, distributed={"world_size": 2}).path, load)


def test_what_the_first_has_to_say_is_reported_also_when_the_others_are_gone(monkeypatch):
    def nobody_there(*arguments, **options):
        raise RuntimeError(
            "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1. This is typically"
        )

    def told_to_end():
        raise Preempted("Told to terminate.")

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", nobody_there)
    ranks = ProcessGroup(0, 2, torch.device("cpu"))
    with pytest.raises(Preempted, match="Told to terminate"):
        ranks.on_rank_0(told_to_end)
    with pytest.raises(RunFailed, match=r"alone \(Connection closed by peer \[127\.0\.0\.1\]:1\)\."):
        ranks.on_rank_0(lambda: 1)
