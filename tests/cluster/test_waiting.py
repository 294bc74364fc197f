"""A run that waits for GPUs on its node; one that takes another's place. nvidia-smi is a recording; no GPU is used."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from giblet_tui.agent import start_run
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import watch
from tests.cluster.ground import Ground, make_ground  # noqa: F401 - a fixture
from tests.cluster.nodes import wait_until

SHOWS_GPUS = "import os, time; print('on', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(600)"
GPUS = ("GPU-a", "GPU-b")


class Cards:
    """What the recorded nvidia-smi tells: two cards, and who has them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncase $1 in *compute-apps*) cat {folder}/apps;; *) cat {folder}/gpus;; esac\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def held(self, *uuids: str) -> None:
        lines = [f"{i}, {u}, A6000, {40000 if u in uuids else 4}, 49140, 0, 30" for i, u in enumerate(GPUS)]
        (self.folder / "apps").write_text("".join(f"{u}, 1, 40000\n" for u in uuids))
        (self.folder / "gpus").write_text("\n".join(lines) + "\n")


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cards:
    return Cards(tmp_path, monkeypatch)


def begin(ground: Ground, n_gpus: int = 1, **more: object) -> str:
    """Start a run that waits; its id."""
    awaits = {"n_gpus": n_gpus, "among": list(GPUS), "every_s": 0.1}
    record = ground.record([sys.executable, "-c", SHOWS_GPUS])
    demand = {"n_gpus": n_gpus, "among": None, "awaits": awaits}
    arguments = ground.arguments(record, "process", gpus=demand, **more)
    start_run.start(arguments, lambda event: None)
    return str(record["run_id"])


def start_on(ground: Ground, *uuids: str, emit: Any = lambda event: None, **more: object) -> str:
    """Start a run on these GPUs or not at all; its id."""
    record = ground.record([sys.executable, "-c", SHOWS_GPUS])
    demand = {"n_gpus": len(uuids), "among": list(uuids), "awaits": None}
    start_run.start(ground.arguments(record, "process", gpus=demand, **more), emit)
    return str(record["run_id"])


def health(ground: Ground, run_id: str) -> tuple[str, str]:
    node = Node(name="local", host="h", transport="local", workdir=str(ground.workdir))
    run = watch.observe_once(node, [run_id]).runs[0].health
    return run.state, run.sentence


def printed(ground: Ground, run_id: str) -> str:
    log = ground.workdir / "runs" / run_id / "train.log"
    return log.read_text() if log.exists() else ""


def test_it_waits_is_seen_and_starts_on_what_came_free(ground: Ground, cards: Cards) -> None:
    cards.held(*GPUS)
    first = begin(ground)
    wait_until(lambda: health(ground, first)[0] == "waiting")
    assert health(ground, first)[1].startswith("for 1 free GPU (0 of 2 are free); ")
    second = begin(ground)
    cards.held("GPU-a")
    wait_until(lambda: printed(ground, first), what="the first run on the GPU that came free")
    assert printed(ground, first) == "on GPU-b\n"
    # What another run has taken is not free, although it shows no memory yet.
    wait_until(lambda: health(ground, second)[1].startswith("for 1 free GPU (0 of 2 are free); "), what="the second")
    with pytest.raises(AgentRefusal, match=rf"0 of 1 are: GPU 1 \(A6000\): claimed by {first} ") as refusal:
        start_on(ground, "GPU-b")
    assert refusal.value.exit_code == 5

    assert ground.stop(second)["survivors"] == []
    assert health(ground, second) == ("stopped", "stopped on request") and printed(ground, second) == ""
    assert printed(ground, first) == "on GPU-b\n"


def place(ground: Ground, run_id: str) -> str:
    """Return what a waiting run says of its place in the line."""
    state, sentence = health(ground, run_id)
    return sentence.partition(" are free")[2].partition(")")[0] if state == "waiting" else state


def test_whoever_came_first_is_served_first(ground: Ground, cards: Cards) -> None:
    """Three wait; the second is killed; the first wants both cards, so the third does not pass it with one."""
    cards.held(*GPUS)
    runs = [begin(ground, n_gpus) for n_gpus in (2, 1, 1)]
    numbers = ["; number 1 in line", "; number 2 in line", "; number 3 in line"]
    wait_until(lambda: [place(ground, run_id) for run_id in runs] == numbers, what="their places")
    supervisor = ground.run(runs[1]).supervisor()
    assert supervisor
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: place(ground, runs[2]) == "; number 2 in line", what="the place of the third")
    assert health(ground, runs[1])[0] == "died"

    cards.held("GPU-a")
    wait_until(lambda: "(1 of 2 are free; number 2 in line)" in health(ground, runs[2])[1], what="a card")
    with pytest.raises(AgentRefusal, match=f"{runs[0]} waits for GPUs here, and comes first") as refusal:
        start_on(ground, "GPU-b")
    assert refusal.value.exit_code == 5 and "--when-free" in refusal.value.remedy
    cards.held(*GPUS)
    wait_until(lambda: "(0 of 2 are free; number 2 in line)" in health(ground, runs[2])[1], what="another look")
    assert [printed(ground, run_id) for run_id in runs] == ["", "", ""]

    cards.held()
    wait_until(lambda: printed(ground, runs[0]), what="the first run")
    assert printed(ground, runs[0]) == "on GPU-a,GPU-b\n" and printed(ground, runs[2]) == ""
    ground.stop(runs[0])
    wait_until(lambda: printed(ground, runs[2]), what="the third run")


def test_a_run_takes_anothers_place_only_once_all_else_is_well(ground: Ground, cards: Cards) -> None:
    cards.held()
    old, other = start_on(ground, "GPU-a"), start_on(ground, "GPU-b")
    with pytest.raises(AgentRefusal, match=f"claimed by {other}"):
        start_on(ground, "GPU-a", "GPU-b", replaces=[old])
    assert ground.run(old).supervisor() and not ground.run(old).ended

    steps: list[str] = []
    new = start_on(ground, "GPU-a", emit=lambda event: steps.append(str(event.get("step", ""))), replaces=[old])
    assert f"stopping {old}, which this run replaces" in steps
    assert ground.run(old).ended and not ground.run(old).processes()
    assert ground.run(new).supervisor() and ground.run(other).supervisor()
    assert ground.run(new).record("run.json")["gpus"] == ["GPU-a"]
