"""The main job from door to door on this machine, on a study made small: launch, training, verdict, stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.nodes import wait_until
from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")
REDUCED = {
    "data.simulate": "tiny",
    "data.data_dir": "studies/tiny",
    "data.scan_lengths_trs": "null",
    "split.usable_trs": "null",
    "split.gap_trs": "4",
    "num_epochs": "2",
    "steps_per_epoch": "6",
    "warmup_epochs": "1",
    "learning_rate": "0.003",
    "threads": "1",
}
EASY = "{loss_drop: {kind: loss_drop, threshold: 0.01}}"
IMPOSSIBLE = "{loss_drop: {kind: loss_drop, threshold: 0.999}}"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


class Desk:
    """A newcomer's machine: giblet with nobody's files but its own."""

    def __init__(self, folder: Path) -> None:
        folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "home", "TMUX_TMPDIR": "tmux"}
        self.folder = folder
        (folder / "tmux").mkdir(mode=0o700)
        own = {k: v for k, v in os.environ.items() if not k.startswith(("GIBLET_", "TMUX"))}
        self.environment = own | {key: str(folder / name) for key, name in folders.items()}

    def giblet(self, *words: str) -> subprocess.CompletedProcess[str]:
        return giblet_server().run(words, self.environment, self.folder, 300)

    def demo(self, criteria: str, **changes: str) -> list[str]:
        settings = REDUCED | {"criteria": criteria} | changes
        return ["demo", "--headless", *(w for k, v in settings.items() for w in ("--set", f"{k}={v}"))]

    def runs(self) -> list[dict[str, Any]]:
        return list(json.loads(self.giblet("ps", "--json").stdout)["runs"])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    yield desk
    for run in desk.runs():
        if run["state"] in ("starting", "running", "stalled"):
            desk.giblet("stop", run["run_id"], "--force")


def test_the_demo_trains_and_ends_with_its_verdict(desk: Desk) -> None:
    result = desk.giblet(*desk.demo(EASY))
    assert result.returncode == 0, result.stderr
    run_id, *criteria, last = result.stdout.splitlines()
    assert re.fullmatch(r"demo-\d{8}-\d{6}-[0-9a-f]{4}", run_id)
    assert last == "verdict: PASS"
    assert criteria[0] == "✔ PASS     completed: 2 of 2 epochs"
    assert criteria[1].startswith("✔ PASS     loss_drop: train loss")
    epochs = [line for line in result.stderr.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 2
    for part in ("total ", "fmri ", "video ", "audio ", "text ", "validation ", "lr ", "(planned "):
        assert part in epochs[0]
    observed, planned = re.findall(r"lr (\S+) \(planned (\S+)\)", epochs[0])[0]
    assert observed == planned

    run_dir = desk.folder / "home" / "runs" / run_id
    assert json.loads((run_dir / "exit.json").read_text())["code"] == 0
    [run] = desk.runs()
    assert (run["state"], run["verdict"], run["step"], run["epoch"]) == ("finished", "pass", 11, 2)
    assert run["loss"].keys() == {"total", "fmri", "video", "audio", "text"}


def test_what_the_demo_left_can_be_asked_and_pulled(desk: Desk) -> None:
    verdict = desk.giblet("verdict", "@last", "--json")
    assert verdict.returncode == 0, verdict.stderr
    value = json.loads(verdict.stdout)
    names = [criterion["name"] for criterion in value["criteria"]]
    assert (value["verdict"], names[:2]) == ("pass", ["completed", "loss_drop"])
    logs = desk.giblet("logs", "@last", "-f", "-n", "2")
    assert (logs.returncode, len(logs.stdout.splitlines())) == (0, 2)
    assert desk.giblet("status", "demo").returncode == 0
    ps = desk.giblet("ps", "--cached", "--json")
    assert [run["run_id"] for run in json.loads(ps.stdout)["runs"]] == [value["run_id"]]

    pull = desk.giblet("pull", "@last", "--best", "--to", "here")
    assert pull.returncode == 0, pull.stderr
    run_dir = desk.folder / "home" / "runs" / value["run_id"]
    names = {Path(line).name for line in pull.stdout.splitlines()}
    assert {"run.json", "config.yaml", "metrics.jsonl", "train.log", "exit.json"} < names
    for path in map(Path, pull.stdout.splitlines()):
        origin = next(run_dir.rglob(path.name))
        assert (desk.folder / path).read_bytes() == origin.read_bytes()
    assert not list((desk.folder / "here").glob(".*.part"))


def test_a_criterion_that_is_not_met_is_exit_code_1(desk: Desk) -> None:
    result = desk.giblet(*desk.demo(IMPOSSIBLE, num_epochs="1", warmup_steps="0"))
    assert result.returncode == 1, result.stderr
    assert result.stdout.splitlines()[-1] == "verdict: FAIL"
    assert "needs -99.9%" in result.stdout
    assert desk.giblet("verdict", "@last").returncode == 1


def test_a_fault_that_really_happens_is_caught(desk: Desk) -> None:
    settings = [word for key, value in REDUCED.items() for word in ("--set", f"{key}={value}")]
    result = desk.giblet("demo", "crash", "--json", *settings, "--set", "num_epochs=20")
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout.splitlines()[-1])
    assert (outcome["named"], outcome["caught"], outcome["began_step"], outcome["raised_after"]) == (
        "crashed",
        True,
        40,
        0,
    )
    assert "KeyError" in outcome["sentence"]
    assert "crash" not in desk.giblet("ladder").stdout


def test_ctrl_c_leaves_the_run_alone_and_says_how_to_go_on(desk: Desk) -> None:
    before = {run["run_id"] for run in desk.runs()}
    demo = subprocess.Popen(
        [GIBLET, *desk.demo(EASY, num_epochs="400")],
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    run_id = demo.stdout.readline().strip()
    metrics = desk.folder / "home" / "runs" / run_id / "metrics.jsonl"
    wait_until(lambda: '"kind":"step"' in metrics.read_text(), 120.0, "a first step")
    os.killpg(demo.pid, signal.SIGINT)
    _, stderr = demo.communicate(timeout=120)
    assert demo.returncode == 130
    assert f"continues without this terminal: {run_id}" in stderr
    assert f"giblet stop {run_id}" in stderr
    assert run_id not in before
    assert _state(desk, run_id) == "running"

    stop = desk.giblet("stop", "@last")
    assert stop.returncode == 0, stop.stderr
    assert "no process, no session and no GPU memory of it is left" in stop.stdout
    assert _state(desk, run_id) == "stopped"
    assert desk.giblet("stop", run_id).returncode == 0


def _state(desk: Desk, run_id: str) -> str:
    return next((str(run["state"]) for run in desk.runs() if run["run_id"] == run_id), "")
