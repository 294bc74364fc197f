"""One run over two nodes: real torchrun and gloo between two real sshd on loopback, each with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from giblet_train.schema.config import Config, DataConfig
from giblet_train.schema.errors import GibletError
from giblet_tui.agent import run_processes
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.start import connected, plan_launch, start
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode, processes, wait_until

FULL = os.environ.get("GIBLET_TEST_CLUSTER") == "1"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def pair(tensor01: LoopbackNode, tensor02: LoopbackNode, laptop: Laptop) -> tuple[LoopbackNode, LoopbackNode]:
    """Return two nodes with the same study."""
    laptop.name_nodes("".join(f"{node.name}:\n  python: {sys.executable}\n" for node in (tensor01, tensor02)))
    return tensor01, tensor02


def launched(laptop: Laptop, *more: str) -> str:
    result = laptop.giblet("launch", "tensor01,tensor02", "./small.yaml", "--session", "process", *more)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def part(node: LoopbackNode, run_id: str) -> run_processes.LocalRun:
    return run_processes.find(str(node.home / "giblet"), run_id)


def ranks(run: run_processes.LocalRun) -> list[int]:
    """Return its trainers, not torchrun above them."""
    living = run.processes()
    return [
        pid for pid, _, argv in processes() if pid in living and "giblet_train train" in argv and "torch." not in argv
    ]


def test_a_dead_rank_ends_every_node_with_its_cause(laptop: Laptop, pair: tuple[LoopbackNode, LoopbackNode]) -> None:
    run_id = launched(laptop)
    parts = [part(node, run_id) for node in pair]
    assert [run.record("run.json")["nodes"] for run in parts] == [["tensor01", "tensor02"]] * 2
    configs = {(run.path / "config.yaml").read_text() for run in parts}
    assert len(configs) == 1 and "world_size: 2" in configs.pop()
    assert [len(ranks(run)) for run in parts] == [1, 1]
    snapshot = laptop.run(run_id)
    assert [(p["node"], p["state"]) for p in snapshot["nodes"]] == [("tensor01", "running"), ("tensor02", "running")]
    assert laptop.giblet("ps").stdout.count(run_id) == 1

    os.kill(ranks(parts[1])[0], signal.SIGKILL)
    follow = laptop.giblet("logs", run_id, "-f", "-n", "0")
    assert follow.returncode == 1
    assert follow.stderr.endswith("failed: tensor02, rank 1: was killed by signal 9\n")
    assert laptop.run(run_id)["evidence"] == "tensor02, rank 1: was killed by signal 9"
    wait_until(lambda: all(run.ended for run in parts))
    assert [run.processes() for run in parts] == [{}, {}]


def test_a_start_that_fails_on_one_node_is_taken_back_on_the_others(
    pair: tuple[LoopbackNode, LoopbackNode], tmp_path: Path
) -> None:
    nodes = [node.node(workdir=str(tmp_path / node.name), multiplexer="process") for node in pair]
    request = LaunchRequest(
        config=Config(name="demo", device="cpu", data=DataConfig(simulate="tiny")), launched_by="x@y"
    )
    messages: list[str] = []
    with connected(nodes) as targets:
        plans = plan_launch(targets, request)
        Path(plans[1].run_dir).mkdir(parents=True)
        with pytest.raises(GibletError, match=r"^tensor02: .* exists already") as refusal:
            start(targets, plans, messages.append)
    assert refusal.value.exit_code == 5 and "`workdir:` of its own" in refusal.value.remedy
    assert "tensor01: the supervisor is running" in messages
    assert list((tmp_path / "tensor01" / "runs").iterdir()) == []
    assert not [argv for _, _, argv in processes() if plans[0].run.run_id in argv]


@pytest.mark.skipif(not FULL, reason="a minute more: make test-cluster")
def test_a_stop_ends_every_node_a_resume_continues_and_a_lost_node_ends_the_other(
    laptop: Laptop, pair: tuple[LoopbackNode, LoopbackNode]
) -> None:
    run_id = launched(laptop)
    parts = [part(node, run_id) for node in pair]
    stop = laptop.giblet("stop", run_id)
    assert stop.returncode == 0, stop.stderr
    assert [line.split()[-1] for line in stop.stdout.splitlines()] == ["tensor01.", "tensor02."]
    assert [run.processes() for run in parts] == [{}, {}]
    assert laptop.run(run_id)["state"] == "stopped"

    checkpoints = {file.name: file.read_bytes() for file in (parts[0].path / "checkpoints").glob("step-*")}
    run_id = launched(laptop, "--resume", run_id)
    copies = {file.name: file.read_bytes() for file in (parts[1].path / "checkpoints").iterdir()}
    assert checkpoints.items() >= copies.items()
    assert any(line.startswith("[tensor02]:") for line in laptop.giblet("logs", run_id).stdout.splitlines())
    parts = [part(node, run_id) for node in pair]
    for pid in parts[1].processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: parts[0].ended, what="the end on the other node")
    assert json.loads((parts[0].path / "cause.json").read_text())["node"] == "tensor02"
    assert laptop.giblet("status", run_id).returncode == 1
    assert parts[0].processes() == {}
