"""A sweep on a real node: queued for its GPUs or cores, seen as one table, finished without the laptop.

The runs are commands whose program notes when it begins and ends; nvidia-smi is a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_tui.agent import kill, run_processes
from giblet_tui.agent.run_processes import LocalRun
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode, wait_until
from tests.cluster.test_gpu_launch import idle_gpus

pytestmark = pytest.mark.timeout(300)

PROGRAM = """\
import os, sys, time
rate, gate, notes = float(sys.argv[1]), sys.argv[2], sys.argv[3]
def note(word):
    with open(notes, "a") as file:
        file.write("%s %s %s\\n" % (word, sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"]))
note("begin")
for epoch in range(1, 4):
    print("Epoch %d/3 | Train Loss: %.3f | Val Loss: %.3f | fMRI Corr: %.3f" % (epoch, 2, 2, rate * epoch), flush=True)
while not os.path.exists(gate):
    time.sleep(0.02)
note("end")
"""


class Grid:
    """Sweeps of the program over learning rates; each run ends when its gate, a file, is there."""

    def __init__(self, laptop: Laptop, folder: Path) -> None:
        self.laptop, self.folder, self.workdir = laptop, folder, folder / "work"
        (laptop.folder / "fit.py").write_text(PROGRAM)
        laptop.name_nodes(f"tensor01:\n  workdir: {self.workdir}\n  python: /none\n  multiplexer: process\n")

    def launch(self, *options: str) -> list[str]:
        command = ("python3", "fit.py", "{rate}", f"{self.folder}/gate-{{rate}}", f"{self.folder}/notes")
        grid = ("--push", "fit.py", "--grid", "rate=0.1,0.3,0.2")
        result = self.laptop.giblet("launch", "tensor01", *grid, *options, "--", *command)
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    def notes(self) -> list[list[str]]:
        path = self.folder / "notes"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def run(self, run_id: str) -> LocalRun:
        return run_processes.find(str(self.workdir), run_id)

    def open(self, *rates: str) -> None:
        for rate in rates:
            (self.folder / f"gate-{rate}").touch()


@pytest.fixture
def grid(laptop: Laptop, tensor01: LoopbackNode, tmp_path: Path) -> Iterator[Grid]:
    new_grid = Grid(laptop, tmp_path)
    yield new_grid
    for run in run_processes.all_runs(str(new_grid.workdir)):
        kill.kill_tree(run)


def test_on_a_cpu_one_after_the_other_and_the_best_is_named(grid: Grid) -> None:
    """A command may use every core, so one runs at a time; nothing of the laptop is needed for the next to begin."""
    _, second, third = grid.launch()
    wait_until(lambda: grid.notes() == [["begin", "0.1"]], what="the first run")
    for run_id, place in ((second, 1), (third, 2)):
        waits = f"{place} of its sweep to end; 1 at once"
        wait_until(lambda run=grid.run(run_id), text=waits: run.record("supervisor.json").get("waiting_for") == text)
    grid.open("0.1", "0.2")
    wait_until(lambda: ["begin", "0.3"] in grid.notes(), what="the second run")
    assert grid.notes()[:3] == [["begin", "0.1"], ["end", "0.1"], ["begin", "0.3"]]
    assert not grid.run(third).record("heartbeat.json")
    grid.open("0.3")
    wait_until(lambda: grid.run(third).ended, what="the last run")
    assert [word for word, _ in grid.notes()] == ["begin", "end"] * 3
    result = grid.laptop.giblet("sweep")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[2].startswith("★  0.3") and second in lines[2] and "✔ finished  3" in lines[2]
    assert lines[4] == f"best: rate=0.3 ({second}), validation r 0.900"


def test_on_gpus_as_many_as_are_free_and_a_waiting_run_can_be_stopped(grid: Grid, tensor01: LoopbackNode) -> None:
    idle_gpus(tensor01, 0, 1)
    first, second, third = grid.launch("--gpus", "1")
    wait_until(lambda: len(grid.notes()) == 2, what="two runs")
    assert {note[2] for note in grid.notes()} == {"GPU-0", "GPU-1"}
    wait_until(lambda: "GPU" in str(grid.run(third).record("supervisor.json").get("waiting_for")), what="the third")
    stop = grid.laptop.giblet("stop", third, "--grace", "1")
    assert stop.returncode == 0 and grid.run(third).ended
    grid.open("0.1", "0.3")
    wait_until(lambda: grid.run(first).ended and grid.run(second).ended, what="the end of both")
    assert len(grid.notes()) == 4


def test_a_whole_sweep_is_stopped_awaited_and_removed_by_its_name(grid: Grid) -> None:
    run_ids = grid.launch()
    wait_until(lambda: grid.notes() == [["begin", "0.1"]], what="the first run")
    name = grid.run(run_ids[0]).record("run.json")["sweep"]["name"]
    stop = grid.laptop.giblet("stop", name, "--grace", "1")
    assert stop.returncode == 0, stop.stderr
    assert all(grid.run(run_id).ended for run_id in run_ids)
    report = grid.laptop.giblet("wait", name, "--timeout", "30").stderr
    assert all(f"{run_id} stopped" in report for run_id in run_ids)
    removal = grid.laptop.giblet("rm", name, "--yes")
    assert removal.returncode == 0, removal.stderr
    assert not list((grid.workdir / "runs").glob("fit*"))
    unknown = grid.laptop.giblet("stop", f"{name}-x")
    assert unknown.returncode == 2 and "No run begins with" in unknown.stderr
