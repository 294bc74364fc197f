"""`giblet launch` on a node with GPUs, from typing it to the refusal or the run that holds one.

nvidia-smi is a recording on the node's PATH; no GPU is used. The trainer is a stand-in behind the node's `python:`,
which passes everything else on to the real interpreter: planning, checks, agent and supervisor are giblet's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_tui.agent import kill, run_processes
from tests import gpu_recordings
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode, wait_until
from tests.cluster.test_launch import STEPS, TRAINER

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def gpu_node(laptop: Laptop, tensor01: LoopbackNode, tmp_path: Path) -> Iterator[LoopbackNode]:
    """Yield a node with two idle recorded GPUs, whose trainer prints its GPUs and steps until it is stopped."""
    trainer = tmp_path / "trainer.py"
    trainer.write_text(TRAINER + "print('on', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\n" + STEPS + "\n")
    python = tmp_path / "python"
    cases = f'*"giblet_train train"*) exec {sys.executable} {trainer} "$@";; *"giblet_train watch"*) exec sleep 600;;'
    python.write_text(f'#!/bin/sh\ncase "$*" in {cases} *) exec {sys.executable} "$@";; esac\n')
    python.chmod(0o755)
    workdir = tmp_path / "work"
    laptop.name_nodes(f"tensor01:\n  python: {python}\n  workdir: {workdir}\n  multiplexer: process\n")
    idle_gpus(tensor01, 0, 1)
    yield tensor01
    (tensor01.bin / "nvidia-smi").unlink(missing_ok=True)
    for run in run_processes.all_runs(str(workdir)):
        kill.kill_tree(run)


def idle_gpus(node: LoopbackNode, *indices: int) -> None:
    rows = "".join(f"echo '{i}, GPU-{i}, A100, 4, 81559, 0, 30';" for i in indices)
    node.record_gpus(f"case $1 in *gpu=index*) {rows} ;; esac")


def test_an_ensemble_takes_a_gpu_for_each_member(laptop: Laptop, gpu_node: LoopbackNode) -> None:
    result = laptop.giblet("launch", "tensor01", "./small.yaml", "--ensemble", "2")
    assert result.returncode == 0, result.stderr
    first, second = result.stdout.split()
    assert "claimed GPU 0 (A100)" in result.stderr and "claimed GPU 1 (A100)" in result.stderr

    gpu_lines = laptop.giblet("ps").stderr
    assert f"tensor01: 0 of 2 GPUs free; GPU 0 (A100): claimed by {first} (" in gpu_lines
    assert f"GPU 1 (A100): claimed by {second} (" in gpu_lines
    assert f"gpu 0: A100, 0.0/80 GiB, claimed by {first} (" in laptop.giblet("doctor", "tensor01").stdout

    for words in (["--dry-run"], []):
        refusal = laptop.giblet("launch", "tensor01", "./small.yaml", "--again", *words)
        assert refusal.returncode == 5 and refusal.stdout == ""
        assert f"0 of 2 are free (GPU 0 (A100): claimed by {first} (" in refusal.stderr
    waits = laptop.giblet("launch", "tensor01", "./small.yaml", "--again", "--when-free")
    assert waits.returncode == 0 and "waits on the node until 1 of 2 GPUs are free" in waits.stderr
    third = waits.stdout.strip()
    assert laptop.run(third)["state"] == "waiting"
    assert laptop.giblet("stop", first).returncode == 0
    wait_until(lambda: laptop.run(third)["state"] == "running", what="the run that waited")
    assert laptop.giblet("stop", second, third).returncode == 0
    assert "2 of 2 GPUs free" in laptop.giblet("ps").stderr


def test_two_launches_in_a_row_and_a_replacement(laptop: Laptop, gpu_node: LoopbackNode) -> None:
    first = laptop.giblet("launch", "tensor01", "./small.yaml")
    second = laptop.giblet("launch", "tensor01", "./small.yaml", "--set", "name=other", "--set", "seed=3")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "on GPU 0, in a plain process" in first.stderr and "on GPU 1, in a plain process" in second.stderr
    third = laptop.giblet("launch", "tensor01", "./small.yaml", "--set", "seed=9", "--replace")
    assert third.returncode == 0, third.stderr
    assert f"replaces {first.stdout.strip()}" in third.stderr and "claimed GPU 0 (A100)" in third.stderr
    assert laptop.run(first.stdout.strip())["state"] == "stopped"
    assert laptop.giblet("stop", second.stdout.strip(), third.stdout.strip()).returncode == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "Driver/library version"),
        ("echo 'No devices were found'; exit 6", "No devices were found"),
    ],
)
def test_a_sick_nvidia_smi_never_means_the_cpu(
    laptop: Laptop, gpu_node: LoopbackNode, script: str, reason: str
) -> None:
    gpu_node.record_gpus(script)
    for words in (["launch", "tensor01", "./small.yaml", "--dry-run"], ["launch", "tensor01", "./small.yaml"]):
        refusal = laptop.giblet(*words)
        assert refusal.returncode == 5 and reason in refusal.stderr and "device=cpu" in refusal.stderr
    assert laptop.giblet("doctor", "tensor01").returncode == 5
    assert laptop.giblet("launch", "tensor01", "./small.yaml", "--dry-run", "--set", "device=cpu").returncode == 0


def test_warnings_are_shown_and_a_lost_card_is_left_out(laptop: Laptop, gpu_node: LoopbackNode) -> None:
    script = "echo '0, GPU-0, A100, [GPU is lost], [GPU is lost], [N/A], [N/A]'; echo '1, GPU-1, A100, 4, 81559, 0, 30'"
    gpu_node.record_gpus(f"case $1 in *gpu=index*) {script}; echo 'WARNING: infoROM is corrupted'; exit 14;; esac")
    result = laptop.giblet("launch", "tensor01", "./small.yaml", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "! nvidia-smi: nvidia-smi: it ended with status 14: WARNING: infoROM is corrupted" in result.stderr
    assert "! gpu 0: A100, 0.0/0 GiB, nvidia-smi reports [GPU is lost] for its memory" in result.stderr
    assert "on GPU 1, in a plain process" in result.stderr
    refusal = laptop.giblet("launch", "tensor01", "./small.yaml", "--gpus", "0,", "--force")
    assert refusal.returncode == 5 and "[GPU is lost]" in refusal.stderr


def test_a_divided_gpu_gives_a_slice_and_damaged_ones_are_left_out(laptop: Laptop, gpu_node: LoopbackNode) -> None:
    """A run of one process gets a free MIG slice by its UUID; one of two processes gets no slice, and is told why."""
    gpu_recordings.record(gpu_node.bin)
    try:
        report = laptop.giblet("doctor", "tensor01").stdout
        assert "✔ gpu 0:1: MIG 1g.5gb of NVIDIA A100-SXM4-40GB, 0.0/5 GiB, free" in report
        assert "! gpu 1: NVIDIA A100-SXM4-40GB, 0.0/40 GiB, Xid 79 (fallen off the bus) in the kernel log" in report
        assert "! gpu 3: NVIDIA A100-SXM4-40GB, 0.0/40 GiB, 2 uncorrectable ECC errors" in report
        two = laptop.giblet("launch", "tensor01", "./small.yaml", "--gpus", "2")
        assert two.returncode == 5 and "0 of 6 are free" in two.stderr
        assert "GPU 0:1 (MIG 1g.5gb of NVIDIA A100-SXM4-40GB): a MIG slice, which serves a run of one" in two.stderr
        launch = laptop.giblet("launch", "tensor01", "./small.yaml")
        assert launch.returncode == 0, launch.stderr
        run_id = launch.stdout.strip()
        assert "claimed GPU 0:1 (MIG 1g.5gb" in launch.stderr
        assert f"on {gpu_recordings.SLICES[1]}" in laptop.giblet("logs", run_id).stdout
        holders = laptop.giblet("ps").stderr
        assert (
            "tensor01: 0 of 5 GPUs free" in holders
            and f"GPU 0:1 (MIG 1g.5gb of NVIDIA A100-SXM4-40GB): claimed by {run_id}" in holders
        )
        again = laptop.giblet("launch", "tensor01", "./small.yaml", "--again")
        assert again.returncode == 5 and f"claimed by {run_id}" in again.stderr
        assert laptop.giblet("stop", run_id).returncode == 0
    finally:
        gpu_recordings.remove(gpu_node.bin)


def test_missing_files_and_too_many_processes_are_refused_before_anything_starts(
    laptop: Laptop, gpu_node: LoopbackNode
) -> None:
    (gpu_node.bin / "nvidia-smi").unlink()
    (laptop.folder / "mine.yaml").write_text("name: mine\ndistributed: {world_size: 512}\n")
    report = json.loads(laptop.giblet("doctor", "tensor01", "./mine.yaml", "--json").stdout)
    failures = {f["name"] for f in report["findings"] if f["needed"] and not f["well"]}
    assert failures == {"processes", "data"} and not report["ok"]
    for words in (["--dry-run"], [], ["--ensemble", "2"]):
        refusal = laptop.giblet("launch", "tensor01", "./mine.yaml", *words)
        assert refusal.returncode == 5 and refusal.stdout == "", refusal.stderr
        assert "2 checks failed" in refusal.stderr and "512 processes on " in refusal.stderr
        assert refusal.stderr.count("does not exist") + refusal.stderr.count("No file matches") >= 3
    assert laptop.giblet("ps", "-a").stdout == ""
