"""A command of one's own as a run: a stand-in for the lab's older trainer, sent from a git repository, on a real node.

It prints the lab's log lines among progress bars and colours, and has a loader that ignores TERM and has left the tree.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from giblet_train.schema.errors import GibletError
from giblet_tui.agent import kill, run_processes
from giblet_tui.launch.command import build_command, command_config
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.start import Target, connected, plan_launch, start
from giblet_tui.monitor import watch
from giblet_tui.monitor.logs import fetch_log_end
from giblet_tui.reporting import why
from tests.cluster.laptop import Laptop
from tests.cluster.nodes import LoopbackNode, processes, wait_until

pytestmark = pytest.mark.timeout(300)

OLD_TRAINER = """\
import json, math, os, signal, sys, time
how, tag = sys.argv[1], sys.argv[2]
config = json.load(open(sys.argv[3])) if len(sys.argv) > 3 else {"epochs": 12}
if how in ("stays", "hangs") and os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
print("NCCL INFO Bootstrap : Using eth0", os.environ.get("STUDY", ""), os.path.basename(os.getcwd()), flush=True)
for epoch in range(1, config["epochs"] + 1):
    for batch in (1, 2):
        sys.stdout.write("\\r\\x1b[32m%d%%|####| %d/2 [00:01<00:00]" % (50 * batch, batch))
    loss = 275959 - epoch if how == "flat" else 3 * math.exp(-epoch / 4) + 1
    loss = math.nan if how == "nan" and epoch > 6 else loss
    held = " | Val Loss: %.4f | Val PSNR: %.2f | fMRI Corr: 0.0012 | LR: 1.00e-05" % (loss * 1.02, 20 + epoch)
    print("\\r\\x1b[0mEpoch %d/%d | Train Loss: %.4f%s" % (epoch, config["epochs"], loss, held), flush=True)
if how == "oom":
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 47.5 GiB total capacity)")
if how in ("stays", "hangs"):
    time.sleep(600)
sys.exit(3 if how == "fails" else 0)
"""


class OldLab:
    """A laptop inside the lab's repository, and a node; the commands carry a tag of this test."""

    def __init__(self, laptop: Laptop, node: LoopbackNode, workdir: Path) -> None:
        self.laptop, self.node, self.workdir = laptop, node, workdir
        self.target = node.node(workdir=str(workdir), python="/nowhere/python", multiplexer="process")
        self.tag = f"old-{workdir.parent.name}"
        (laptop.folder / "train_v3.py").write_text(OLD_TRAINER)
        own = ["-c", "user.email=a@b", "-c", "user.name=ada"]
        for words in (["init", "-q"], ["add", "train_v3.py"], ["commit", "-qm", "v3"]):
            subprocess.run(["git", *own, *words], cwd=laptop.folder, check=True)

    def launch(self, how: str, *options: str, words: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = ("python3", "train_v3.py", how, self.tag, *words)
        return self.laptop.giblet("launch", "tensor01", *options, "--", *command)

    def request(self, words: list[str], *, cwd: str | None = None, gpus: int | None = None) -> LaunchRequest:
        command = build_command(
            words, here=self.laptop.folder, cwd=cwd, environment=(), push_paths=(), with_untracked=False, log=""
        )
        config = command_config(command, None, uses_gpus=True)
        return LaunchRequest(config=config, command=command, launched_by="ada@laptop", gpus=gpus)

    def start(self, targets: list[Target], words: list[str], **options: Any) -> str:
        plans = plan_launch(targets, self.request(words, **options))
        start(targets, plans, lambda line: None)
        return plans[0].run.run_id

    def ended(self, run_id: str) -> run_processes.LocalRun:
        run = run_processes.find(str(self.workdir), run_id)
        wait_until(lambda: run.ended, what=f"the end of {run_id}")
        return run

    def processes(self) -> list[str]:
        return [command for _, _, command in processes() if self.tag in command and "train_v3" in command]


@pytest.fixture
def lab(laptop: Laptop, tensor01: LoopbackNode, tmp_path: Path) -> Iterator[OldLab]:
    workdir = tmp_path / "work"
    laptop.name_nodes(f"tensor01:\n  workdir: {workdir}\n  python: /nowhere/python\n  multiplexer: process\n")
    old_lab = OldLab(laptop, tensor01, workdir)
    yield old_lab
    for run in run_processes.all_runs(str(workdir)):
        kill.kill_tree(run)


def test_the_lab_s_old_trainer_is_a_run_like_any_other(lab: OldLab) -> None:
    laptop = lab.laptop
    with (laptop.folder / "train_v3.py").open("a") as file:
        file.write("# changed\n")
    (laptop.folder / "v3.json").write_text('{"epochs": 3}')
    options = ("--session", "tmux", "--push", "v3.json", "--env", "STUDY=sherlock", "--note", "first")
    result = lab.launch("stays", *options, words=("v3.json",))
    assert result.returncode == 0, result.stderr
    run_id = result.stdout.strip()
    assert run_id.startswith("train_v3-") and "with uncommitted changes)" in result.stderr
    assert "no alerts will be raised" in result.stderr, "the node has no engine, and the command runs without"
    run = run_processes.find(str(lab.workdir), run_id)
    kinds = ('"epoch", "seq"', '"values", "seq"')
    records = run.path / "metrics.jsonl"
    wait_until(lambda: [records.read_text().count(kind) for kind in kinds] == [3, 3], what="three epochs")

    listed_run = laptop.run(run_id)
    assert listed_run["state"] == "running" and listed_run["epoch"] == 3
    psnr = {"train": None, "validation": 23.0, "best": 23.0, "best_at": 3, "higher_is_better": True}
    assert listed_run["metrics"]["PSNR"] == psnr
    log = (run.path / "train.log").read_text()
    assert "Using eth0 sherlock work" in log
    assert (run.path / "work/train_v3.py").read_text().endswith("# changed\n")
    assert "+# changed" in (run.path / "uncommitted.patch").read_text()
    record = json.loads((run.path / "run.json").read_text())
    assert record["command"]["environment"] == ["STUDY"] and "sherlock" not in json.dumps(record)
    assert not list((lab.workdir / "sources").iterdir()), "what was sent is unpacked, and not kept twice"
    status = laptop.giblet("status", run_id).stdout
    assert "epoch 3 train total 2.417 | validation total 2.465 | lr 1.000e-05" in status
    assert "PSNR: validation 23.00 (best 23.00 at epoch 3, higher is better)" in status
    assert "command: python3 train_v3.py stays" in status and "(commit " in status

    again = lab.launch("stays", *options, words=("v3.json",))
    assert again.returncode == 5 and f"This command already runs here: {run_id}" in again.stderr
    for verb, reason in {"verdict": "it is a command of your own", "evaluate": "was not trained by giblet"}.items():
        refusal = laptop.giblet(verb, run_id)
        assert refusal.returncode == 2 and reason in refusal.stderr, verb

    assert len(lab.processes()) == 2
    stop = laptop.giblet("stop", run_id, "--grace", "1")
    assert stop.returncode == 0 and "Nothing of it is left" in stop.stderr + stop.stdout
    assert lab.processes() == [] and laptop.run(run_id)["state"] == "stopped"


def test_its_losses_and_its_end_are_explained(lab: OldLab) -> None:
    """Four commands at once: their exit codes are recorded, and `why` names what went wrong."""
    expected = {
        "nan": (0, "finished", "nan"),
        "oom": (1, "failed", "oom_gpu"),
        "flat": (0, "finished", "flat"),
        "fails": (3, "failed", "crashed"),
    }
    with connected([lab.target]) as targets:
        run_ids = {how: lab.start(targets, ["python3", "train_v3.py", how, lab.tag]) for how in expected}
    for how, (code, state, cause) in expected.items():
        run = lab.ended(run_ids[how])
        assert run.record("exit.json")["code"] == code, how
        snapshot = watch.observe_once(lab.target, [run.run_id]).runs[0]
        answer = why.of_run(snapshot, log=fetch_log_end(lab.target, run.run_id))
        findings = [finding.cause for finding in answer.diagnosis.causes]
        assert (snapshot.health.state, cause in findings) == (state, True), (how, findings)
        assert len(snapshot.epochs) == 12, how
    pull = lab.laptop.giblet("pull", run_ids["oom"])
    assert pull.returncode == 0 and "without" not in pull.stderr, pull.stderr
    offline = lab.laptop.giblet("why", f"./{run_ids['oom']}")
    assert offline.returncode == 1 and offline.stdout.startswith("1. oom_gpu"), offline.stderr


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        (["pyhton", "x.py"], {}, "There is no program 'pyhton' on this node's PATH"),
        (["python3", "x.py"], {"cwd": "/nowhere"}, "/nowhere is not a directory on this node"),
        (["/etc/passwd"], {"cwd": "/"}, "/etc/passwd may not be executed on this node"),
        (["python3", "-c", "pass"], {"gpus": 2}, "This node has no GPU"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_sent(
    lab: OldLab, words: list[str], options: dict[str, Any], sentence: str
) -> None:
    with connected([lab.target]) as targets, pytest.raises(GibletError) as refusal:
        lab.start(targets, words, **options)
    assert refusal.value.exit_code == 5 and sentence in refusal.value.message
    assert not list(lab.workdir.glob("runs/*")) and not list(lab.workdir.glob("sources/*"))


def test_a_program_that_vanished_after_the_plan_leaves_nothing(lab: OldLab) -> None:
    with connected([lab.target]) as targets, pytest.raises(GibletError, match="There is no program") as refusal:
        request = lab.request(["python3", "-c", "pass"])
        plans = plan_launch(targets, request)
        plans = [replace(plan, run=replace(plan.run, argv=("gone", "-c", "pass"))) for plan in plans]
        start(targets, plans, lambda line: None)
    assert refusal.value.exit_code == 5 and not list((lab.workdir / "runs").iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--resume", "@last", "--", "python3", "x.py"), "giblet cannot resume it"),
        (("demo", "--push", "x"), "--push is for a command of your own"),
        ((), "Name a configuration, or a command behind --."),
    ],
)
def test_options_that_do_not_belong_together_are_refused(lab: OldLab, words: tuple[str, ...], sentence: str) -> None:
    refusal = lab.laptop.giblet("launch", "tensor01", *words)
    assert (refusal.returncode, refusal.stdout) == (2, "") and sentence in refusal.stderr, refusal.stderr
