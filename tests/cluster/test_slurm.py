"""Runs as jobs of a real Slurm, launched through a login node by ssh. Login and compute nodes are this machine."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_train.schema.records import StepMetric, decode_metrics
from giblet_tui.agent import run_processes
from tests.cluster.conftest import copy_study, unavailable
from tests.cluster.laptop import GIBLET, Laptop
from tests.cluster.nodes import Cluster, LoopbackNode, processes, read_until, wait_until
from tests.cluster.slurm import LIMITED_PARTITION, PARTITION, SlurmCluster, lacking

ON_CPU = ("--set", "device=cpu")


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Yield a Slurm cluster of two nodes."""
    if reason := lacking():
        unavailable(reason)
    slurm_cluster = SlurmCluster()
    yield slurm_cluster
    for job_id in slurm_cluster.output("squeue", "--noheader", "--format=%i").split():
        slurm_cluster.output("scancel", job_id)
    wait_until(lambda: not slurm_cluster.output("squeue", "--noheader"), what="the end of all jobs")
    slurm_cluster.close()


@pytest.fixture(scope="module")
def login_node(cluster: Cluster, slurm: SlurmCluster, tiny_study: Path) -> Iterator[LoopbackNode]:
    """Yield a node by ssh on which Slurm's client programs work."""
    node = LoopbackNode(cluster, "login-of-slurm", "127.0.0.8", variables=slurm.environment)
    copy_study(tiny_study, node)
    yield node
    node.close()


@pytest.fixture
def user(laptop: Laptop, login_node: LoopbackNode) -> Laptop:
    """Return a laptop whose nodes.yaml makes every run on the login node a job."""
    laptop.name_nodes(f"{login_node.name}:\n  python: {sys.executable}\n  multiplexer: slurm\n")
    return laptop


def steps_of(run_dir: Path) -> list[int]:
    """Return the steps in the run's records; none before there are records."""
    records = run_dir / "metrics.jsonl"
    metrics, _ = decode_metrics(records.read_bytes().splitlines() if records.exists() else [])
    return [metric.step for metric in metrics if isinstance(metric, StepMetric)]


def wait_for_end(node: LoopbackNode, *run_ids: str) -> None:
    """Wait until the ends of runs are recorded."""
    ends = [node.home / "giblet" / "runs" / run_id / "exit.json" for run_id in run_ids]
    wait_until(lambda: all(end.exists() for end in ends), what=f"the end of {', '.join(run_ids)}")


def trainers_of(run_dir: Path) -> list[int]:
    """Return the processes that train, not torchrun above them."""
    words = f"giblet_train train {run_dir}"
    return [pid for pid, _, command in processes() if words in command and "torch.distributed" not in command]


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def job_names(slurm: SlurmCluster) -> list[str]:
    return slurm.output("squeue", "--noheader", "--format=%j").split()


def test_a_job_is_launched_watched_put_back_into_its_queue_continued_and_stopped(
    user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster
) -> None:
    launch = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--partition", PARTITION)
    assert launch.returncode == 0, launch.stderr
    run_id = launch.stdout.strip()
    assert f"partition={PARTITION}" in launch.stderr
    assert job_names(slurm) == [f"gib-{run_id}"]
    run_dir = login_node.home / "giblet" / "runs" / run_id
    assert f"#SBATCH --partition={PARTITION}\n" in (run_dir / "launch.sh").read_text()
    wait_until(lambda: steps_of(run_dir), 180.0, "a step of the job")
    run = user.run(run_id)
    assert (run["state"], run["multiplexer"]) == ("running", "slurm")
    again = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU)
    assert again.returncode == 5 and "already runs here" in again.stderr

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
    stop = user.giblet("stop", run_id)
    assert stop.returncode == 0, stop.stderr
    assert "as COMPLETED" in stop.stdout and "sees none of that node's processes itself" in stop.stdout
    assert user.run(run_id)["state"] == "stopped"
    assert not [command for _, _, command in processes() if run_id in command]
    steps = steps_of(run_dir)
    assert steps == list(range(len(steps))), "no step is missing or comes twice"
    weights = [int(path.stem.rpartition("-")[2]) for path in (run_dir / "checkpoints").glob("step-*.safetensors")]
    assert max(weights) == len(steps), "it saved before it ended"


def test_a_job_of_two_nodes_trains_with_torchrun_on_both_continues_after_a_requeue_and_stops(
    user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster
) -> None:
    refusal = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "nodes=1-2")
    assert refusal.returncode == 2 and "fixed number of nodes" in refusal.stderr
    launch = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "nodes=2", "--again")
    run_id = launch.stdout.strip()
    assert launch.returncode == 0, launch.stderr
    run_dir = login_node.home / "giblet" / "runs" / run_id
    wait_until(lambda: len(trainers_of(run_dir)) == 2 and steps_of(run_dir), 180.0, "the first step")
    (job_id,) = slurm.output("squeue", "--noheader", f"--name=gib-{run_id}", "--format=%i").split()
    assert "c[1-2]" in slurm.output("squeue", "--noheader", "--steps", f"--jobs={job_id}", "--format=%N").split()
    assert "world_size: 2" in (run_dir / "config.yaml").read_text()
    assert sorted(path.name for path in (run_dir / "ranks").iterdir()) == ["node-0", "node-1"]
    names = [environment_of(pid).split(b"SLURMD_NODENAME=")[1][:2] for pid in trainers_of(run_dir)]
    assert sorted(names) == [b"c1", b"c2"]

    wait_until(lambda: list((run_dir / "checkpoints").glob("*.json")), 180.0, "a checkpoint")
    slurm.output("scontrol", "requeuehold", job_id)
    wait_until(lambda: "PENDING" in slurm.output("squeue", "--noheader", "--format=%T", f"--job={job_id}"))
    assert not trainers_of(run_dir), "Slurm has ended both"
    n_before = len(steps_of(run_dir))
    slurm.output("scontrol", "release", job_id)
    slurm.output("scontrol", "update", f"JobId={job_id}", "StartTime=now")
    wait_until(lambda: len(steps_of(run_dir)) > n_before + 2, 180.0, "steps after the restart")
    stop = user.giblet("stop", run_id)
    assert stop.returncode == 0, stop.stderr
    assert user.run(run_id)["state"] == "stopped" and not trainers_of(run_dir)
    steps = steps_of(run_dir)
    assert steps == list(range(len(steps))), "no step is missing or comes twice"


def test_a_shell_opens_where_a_job_runs(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    held_id = user.giblet(
        "launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "hold", "--again"
    ).stdout.strip()
    pending = user.giblet("attach", held_id, "--write")
    assert pending.returncode == 1 and "Slurm to start job" in pending.stderr, pending.stderr
    assert user.giblet("stop", held_id).returncode == 0
    program = ("sh", "-c", "echo epoch 1 loss 0.5; sleep 600")
    launch = user.giblet("launch", login_node.name, "--cwd", "~", "--name", "asleep", "--", *program)
    run_id = launch.stdout.strip()
    # A launch does not wait for a job that is pending, if only until the scheduler's next round.
    wait_until(lambda: user.run(run_id)["state"] == "running", 60.0, "the job")
    refusal = user.giblet("attach", run_id)
    assert refusal.returncode == 2 and f"giblet attach {run_id} --write" in refusal.stderr
    (login_node.home / ".profile").write_text("PS1='ready> '\n")
    ours, theirs = pty.openpty()
    words = [str(GIBLET), "attach", run_id, "--write"]
    child = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=user.environment, cwd=user.folder)
    os.close(theirs)
    read_until(ours, b"ready> ")
    os.write(ours, b"echo in $SLURM_JOB_ID on $SLURMD_NODENAME; exit 5\r")
    job_id = slurm.output("squeue", "--noheader", f"--name=gib-{run_id}", "--format=%i").strip()
    read_until(ours, f"in {job_id} on c".encode())
    assert child.wait(60) == 5
    os.close(ours)
    stop = user.giblet("stop", run_id)
    assert stop.returncode == 0 and "Sent TERM to the supervisor of Slurm job" in stop.stderr
    assert "Asked it to stop at its next step" not in stop.stderr, "a command knows no stop file"
    assert user.run(run_id)["state"] == "stopped"


def test_a_sweep_is_queued_by_slurm(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    words = (sys.executable, "-c", "print('epoch 1 loss {rate}')")
    launch = user.giblet(
        "launch", login_node.name, "--cwd", "~", "--gpus", "0", "--grid", "rate=0.5,0.25", "--", *words
    )
    run_ids = launch.stdout.split()
    assert len(run_ids) == 2, launch.stderr
    wait_for_end(login_node, *run_ids)
    assert all(user.run(run_id)["state"] in ("finished", "ended") for run_id in run_ids)
    table = user.giblet("sweep").stdout
    assert [line.split()[0] for line in table.splitlines()[1:3]] == ["0.5", "0.25"], table
    names = slurm.output("squeue", "--noheader", "--states=all", "--format=%j").split()
    assert {f"gib-{run_id}" for run_id in run_ids} <= set(names)


def test_a_rank_killed_on_the_second_node_ends_the_job_with_its_cause(
    user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster
) -> None:
    long = ("--set", "num_epochs=100000", "--again")
    launch = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "nodes=2", *long)
    run_id = launch.stdout.strip()
    assert launch.returncode == 0, launch.stderr
    run_dir = login_node.home / "giblet" / "runs" / run_id
    # A job that is pending for a moment is launched, too.
    wait_until(lambda: len(trainers_of(run_dir)) == 2 and steps_of(run_dir), 180.0, "the first step")
    [second] = [pid for pid in trainers_of(run_dir) if b"SLURMD_NODENAME=c2" in environment_of(pid)]
    os.kill(second, signal.SIGKILL)
    wait_for_end(login_node, run_id)
    run = user.run(run_id)
    assert (run["state"], run["evidence"]) == ("failed", "c2, rank 1: was killed by signal 9")
    assert not trainers_of(run_dir)


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
    wrong = user.giblet("launch", login_node.name, "./small.yaml", *ON_CPU, "--sbatch", "ntasks=4")
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
    stop = user.giblet("stop", run_id)
    assert stop.returncode == 0 and "as CANCELLED" in stop.stdout, stop.stderr
    assert user.run(run_id)["state"] == "stopped"


def test_a_command_of_the_users_runs_as_a_job(user: Laptop, login_node: LoopbackNode, slurm: SlurmCluster) -> None:
    words = (sys.executable, "-c", "import os; print('epoch 1 loss 0.5 in job', os.environ['SLURM_JOB_ID'])")
    launch = user.giblet("launch", login_node.name, "--cwd", "~", "--name", "in-slurm", "--", *words)
    run_id = launch.stdout.strip()
    assert run_id, launch.stderr
    wait_for_end(login_node, run_id)
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
