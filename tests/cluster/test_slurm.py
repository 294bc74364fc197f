"""Runs as jobs of a real Slurm, launched through a login node by ssh. Login and compute node are this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_train.schema.records import StepMetric, decode_metrics
from giblet_tui.agent import run_processes
from tests.cluster.conftest import unavailable
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import Cluster, LoopbackNode, processes, wait_until
from tests.cluster.slurm import LIMITED_PARTITION, PARTITION, SlurmCluster, lacking

ON_CPU = ("--set", "device=cpu")


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Yield a Slurm cluster of one node."""
    if reason := lacking():
        unavailable(reason)
    slurm_cluster = SlurmCluster()
    yield slurm_cluster
    for job_id in slurm_cluster.output("squeue", "--noheader", "--format=%i").split():
        slurm_cluster.output("scancel", job_id)
    wait_until(lambda: not slurm_cluster.output("squeue", "--noheader"), what="the end of all jobs")
    slurm_cluster.close()


@pytest.fixture(scope="module")
def login_node(cluster: Cluster, slurm: SlurmCluster) -> Iterator[LoopbackNode]:
    """Yield a node by ssh on which Slurm's client programs work."""
    node = LoopbackNode(cluster, "login-of-slurm", "127.0.0.8", variables=slurm.environment)
    yield node
    node.close()


@pytest.fixture
def user(laptop: Laptop, login_node: LoopbackNode) -> Laptop:
    """Return a laptop whose nodes.yaml makes every run on the login node a job."""
    laptop.name_nodes(f"{login_node.name}:\n  python: {sys.executable}\n  multiplexer: slurm\n")
    return laptop


def steps_of(run_dir: Path) -> list[int]:
    """Return the steps in the run's records."""
    metrics, _ = decode_metrics((run_dir / "metrics.jsonl").read_bytes().splitlines())
    return [metric.step for metric in metrics if isinstance(metric, StepMetric)]


def job_names(slurm: SlurmCluster) -> list[str]:
    return slurm.output("squeue", "--noheader", "--format=%j").split()


def test_a_job_is_launched_watched_and_stopped(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    launched = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--partition", PARTITION)
    assert launched.returncode == 0, launched.stderr
    run_id = launched.stdout.strip()
    assert f"partition={PARTITION}" in launched.stderr
    assert job_names(slurm) == [f"gib-{run_id}"]
    run_dir = login_node.home / "giblet" / "runs" / run_id
    assert f"#SBATCH --partition={PARTITION}\n" in (run_dir / "launch.sh").read_text()
    wait_until(lambda: user.run(run_id)["step"], 180.0, "a step of the job")
    run = user.run(run_id)
    assert (run["state"], run["multiplexer"]) == ("running", "slurm")
    again = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU)
    assert again.returncode == 5 and "already runs here" in again.stderr
    stopped = user.giblet("stop", run_id)
    assert stopped.returncode == 0, stopped.stderr
    assert "as COMPLETED" in stopped.stdout and "sees none of that node's processes itself" in stopped.stdout
    assert user.run(run_id)["state"] == "stopped"
    assert not [command for _, _, command in processes() if run_id in command]
    assert list((run_dir / "checkpoints").glob("*.safetensors")), "it saved before it ended"


def test_a_job_that_slurm_puts_back_into_its_queue_continues_from_its_checkpoint(
    user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster
) -> None:
    launched = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--again")
    run_id = launched.stdout.strip()
    assert run_id, launched.stderr
    run_dir = login_node.home / "giblet" / "runs" / run_id
    wait_until(lambda: list((run_dir / "checkpoints").glob("*.json")), 180.0, "a checkpoint")
    (job_id,) = slurm.output("squeue", "--noheader", f"--name=gib-{run_id}", "--format=%i").split()
    slurm.output("scontrol", "requeuehold", job_id)
    wait_until(lambda: "PENDING" in slurm.output("squeue", "--noheader", "--format=%T", f"--job={job_id}"))
    waiting = user.run(run_id)
    assert waiting["state"] == "waiting" and "scontrol release" in waiting["evidence"], waiting
    n_before = len(steps_of(run_dir))
    slurm.output("scontrol", "release", job_id)
    slurm.output("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    wait_until(lambda: len(steps_of(run_dir)) > n_before + 2, 180.0, "steps after the restart")
    run = user.run(run_id)
    assert run["state"] == "running" and "Slurm starts this job again" in (run_dir / "train.log").read_text()
    stopped = user.giblet("stop", run_id)
    assert stopped.returncode == 0, stopped.stderr
    assert user.run(run_id)["state"] == "stopped"
    steps = steps_of(run_dir)
    assert steps == list(range(len(steps))), "no step is missing or comes twice"


def test_a_refusal_of_slurm_leaves_nothing(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    runs = login_node.home / "giblet" / "runs"
    runs_before, jobs_before = sorted(runs.glob("*")), job_names(slurm)
    refusals = {
        ("--partition", "attic"): "invalid partition name",
        ("--partition", LIMITED_PARTITION, "--sbatch", "mem=900T"): "memory",
    }
    for options, reason in refusals.items():
        refusal = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, *options)
        assert refusal.returncode == 5 and "Slurm refuses the job" in refusal.stderr, refusal.stderr
        assert reason in refusal.stderr.lower()
    assert "sinfo" in refusal.stderr
    wrong = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "nodes=4")
    assert wrong.returncode == 2 and "giblet sets this option itself" in wrong.stderr
    assert (sorted(runs.glob("*")), job_names(slurm)) == (runs_before, jobs_before)


def test_a_held_job_waits_and_can_be_stopped(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    result = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "hold", "--again")
    assert result.returncode == 0, result.stderr
    run_id = result.stdout.strip()
    run = user.run(run_id)
    assert run["state"] == "waiting"
    assert "JobHeldUser" in run["evidence"] and "scontrol release" in run["evidence"]
    assert "Nothing is stale" in user.giblet("stop", "--stale", login_node.name).stderr
    stopped = user.giblet("stop", run_id)
    assert stopped.returncode == 0 and "as CANCELLED" in stopped.stdout, stopped.stderr
    assert user.run(run_id)["state"] == "stopped"


def test_a_command_of_the_users_runs_as_a_job(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    words = (sys.executable, "-c", "import os; print('epoch 1 loss 0.5 in job', os.environ['SLURM_JOB_ID'])")
    launched = user.giblet("launch", login_node.name, "--cwd", "~", "--name", "in-slurm", "--", *words)
    run_id = launched.stdout.strip()
    assert run_id, launched.stderr
    wait_until(lambda: user.run(run_id)["state"] not in ("waiting", "starting", "running"), what="the end of the job")
    assert "in job" in user.giblet("logs", run_id).stdout
    assert user.run(run_id)["state"] in ("finished", "ended")


def test_a_job_that_is_cancelled_behind_giblet_is_not_called_running(
    user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster
) -> None:
    run_id = user.giblet(
        "launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "hold", "--again"
    ).stdout.strip()
    (job_id,) = slurm.output("squeue", "--noheader", f"--name=gib-{run_id}", "--format=%i").split()
    slurm.output("scancel", job_id)
    wait_until(lambda: f"gib-{run_id}" not in job_names(slurm), what="the end of the job")
    run = user.run(run_id)
    assert run["state"] == "died" and "it was cancelled (CANCELLED)" in run["evidence"]
    local = run_processes.LocalRun(login_node.home / "giblet" / "runs" / run_id)
    assert local.is_scheduled and not local.on_other_host
