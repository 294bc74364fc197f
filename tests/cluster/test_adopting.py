"""A training that somebody started by hand in a real screen or tmux session: taken in, watched, stopped.

The trainer is a stand-in that writes the lab's log lines among progress bars and colours; its loader ignores TERM and
HUP, has left the process tree, and has the session's mark alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from giblet_train.schema.errors import GibletError
from giblet_train.schema.health import Health
from giblet_tui.agent import run_processes
from giblet_tui.connection.connect import connect
from giblet_tui.control.adopt import adopt, run_name
from giblet_tui.control.stop import find_stale, probe_resources, raise_if_survivors, stop
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import watch
from giblet_tui.monitor.snapshots import RunSnapshot
from tests.cluster.nodes import LoopbackNode, processes, wait_until, which

TRAINER = """\
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        time.sleep(600)
    os._exit(0)
print("NCCL INFO Bootstrap : Using eth0", flush=True)
for epoch in range(1, int(sys.argv[2]) + 1):
    for batch in (1, 2):
        sys.stdout.write("\\r\\x1b[32m%d%%|####| %d/2 [00:01<00:00]" % (50 * batch, batch))
    held = "" if epoch == 2 else " | Val Loss: 198234.1016 | fMRI Corr: 0.0012 | LR: 1.00e-05"
    print("\\r\\x1b[0mEpoch %d/3 | Train Loss: %.4f%s" % (epoch, 275959 - epoch, held), flush=True)
time.sleep(float(sys.argv[3]))
"""


class Lab:
    """A node where trainings are started by hand, as the lab does: through `tee`, in a shell that stays."""

    def __init__(self, loopback: LoopbackNode, node: Node, folder: Path) -> None:
        self.loopback, self.node, self.folder = loopback, node, folder
        self.tag = f"lab-{time.time_ns()}"
        (folder / "trainer.py").write_text(TRAINER)

    def begin(self, kind: str, name: str, epochs: int = 3, lasts_s: float = 600.0) -> Path:
        log = self.folder / f"training_{name}_20261122_101500.log"
        command = f"{sys.executable} {self.folder}/trainer.py {self.tag} {epochs} {lasts_s} 2>&1 | tee {log}; exec sh"
        argv = {"screen": ["screen", "-dmS", name], "tmux": ["tmux", "new-session", "-d", "-s", name]}[kind]
        own = {k: v for k, v in os.environ.items() if k not in ("TMUX", "STY")} | self.loopback.environment
        subprocess.run([*argv, "sh", "-c", command], env=own, check=True)
        wait_until(lambda: log.exists() and f"Epoch {epochs}/3" in log.read_text(), what="the trainer's epochs")
        return log

    def adopt(self, session: str, **how: str):
        with connect(self.node) as connection:
            return adopt(self.node, connection, session, "ada@laptop", **how)

    def stop(self, run_id: str):
        with connect(self.node) as connection:
            return stop(self.node, connection, run_id, lambda stage: None, grace_s=0.5)

    def seen(self, run_id: str) -> RunSnapshot:
        return watch.observe_once(self.node, [run_id]).runs[0]

    def health(self, run_id: str) -> Health:
        return self.seen(run_id).health

    def sessions(self) -> list[str]:
        own = os.environ | self.loopback.environment
        lists = (["screen", "-ls"], ["tmux", "ls", "-F", "#{session_name}"])
        output = [subprocess.run(argv, env=own, capture_output=True, text=True).stdout for argv in lists]
        return [line.split()[0] for line in "\n".join(output).splitlines() if "ab" in line and "v3" in line]

    def left(self) -> list[str]:
        return [c for _, _, c in processes() if self.tag in c and c.startswith(sys.executable)]


@pytest.fixture
def lab(tensor01: LoopbackNode, tmp_path: Path) -> Iterator[Lab]:
    new_lab = Lab(tensor01, tensor01.node(workdir=str(tmp_path / "work")), tmp_path)
    yield new_lab
    for pid, _, command in processes():
        if new_lab.tag in command:
            os.kill(pid, 9)
    if which("tmux"):
        own = os.environ | tensor01.environment
        subprocess.run(["tmux", "kill-server"], env=own, capture_output=True, check=False)


def test_a_session_is_seen_and_stopped_to_the_last_process(lab: Lab, multiplexer: str) -> None:
    log = lab.begin(multiplexer, "Lab.v3" if multiplexer == "screen" else "Lab-v3")
    bystander = lab.begin(multiplexer, "Lab-v30")
    adopted_run = lab.adopt("Lab.v3" if multiplexer == "screen" else "Lab-v3")
    assert (adopted_run.log, adopted_run.again) == (str(log), False) and adopted_run.run_id.startswith("lab-v3-")
    wait_until(lambda: len(lab.seen(adopted_run.run_id).epochs) == 3, what="the log's epochs")

    run = lab.seen(adopted_run.run_id)
    assert (run.health.state, run.run.multiplexer) == ("running", multiplexer)
    assert [epoch.train.total for epoch in run.epochs] == [275958.0, 275957.0, 275956.0]
    assert [epoch.fmri_r for epoch in run.epochs] == [0.0012, None, 0.0012] and run.epochs[0].lr == 1e-5
    assert run.config is None and "not known: configuration" in run.run.note
    assert any("Epoch 3/3" in line for line in run.log_tail)
    with connect(lab.node) as connection:
        assert find_stale(lab.node, probe_resources(lab.node, connection)) == []
    with pytest.raises(GibletError, match=f"adopted already, as {adopted_run.run_id}") as refusal:
        lab.adopt("Lab.v3" if multiplexer == "screen" else "Lab-v3")
    assert refusal.value.exit_code == 5

    before = len(lab.left())
    stop = lab.stop(adopted_run.run_id)
    raise_if_survivors([stop])
    assert len(lab.sessions()) == 1 and "v30" in lab.sessions()[0]
    assert (lab.health(adopted_run.run_id).state, log.exists()) == ("stopped", True)
    assert (before, len(lab.left())) == (4, 2), "the other session's trainer and loader live"
    assert "Epoch 3/3" in bystander.read_text() and lab.stop(adopted_run.run_id).already


@pytest.mark.parametrize(
    ("epochs", "last_line", "sentence"),
    [
        (3, "", "epoch 3 of 3 has ended, by its log, the last planned one"),
        (1, "", "epoch 1 of 3 has ended, by its log;"),
        (2, "Early stopping triggered after epoch 2", "early stopping (Early stopping triggered after epoch 2)"),
        (1, "Traceback (most recent call last):\nKeyError: 'sub-04'", "then an error: KeyError: 'sub-04'"),
    ],
)
def test_its_end_is_neutral_and_quotes_the_log(lab: Lab, epochs: int, last_line: str, sentence: str) -> None:
    log = lab.begin("screen", "short", epochs)
    with log.open("a") as file:
        file.write(last_line + "\n")
    adopted_run = lab.adopt("short")
    wait_until(lambda: lab.seen(adopted_run.run_id).epochs)
    for pid, _, command in processes():
        if lab.tag in command and "trainer.py" in command:
            os.kill(pid, 9)
    wait_until(lambda: not lab.health(adopted_run.run_id).live)
    run = lab.seen(adopted_run.run_id)
    assert run.exit is not None and run.exit.code is None
    assert (run.health.state, "exit code is not known" in run.health.sentence) == ("ended", True)
    assert sentence in run.health.sentence


def test_a_keeper_that_died_is_replaced_and_doubles_nothing(lab: Lab) -> None:
    lab.begin("screen", "again")
    adopted_run = lab.adopt("again")
    wait_until(lambda: len(lab.seen(adopted_run.run_id).epochs) == 3)
    run = run_processes.find(lab.node.workdir, adopted_run.run_id)
    checkpoints = run.supervisor()
    assert checkpoints
    os.kill(checkpoints, 9)
    wait_until(lambda: run.supervisor() is None)
    with connect(lab.node) as connection:
        (stale,) = find_stale(lab.node, probe_resources(lab.node, connection))
    assert stale.why.startswith("its supervisor is gone, but pid")
    second = lab.adopt("again")
    assert (second.run_id, second.again) == (adopted_run.run_id, True)
    wait_until(lambda: lab.health(adopted_run.run_id).state == "running")
    assert len(lab.seen(adopted_run.run_id).epochs) == 3
    raise_if_survivors([lab.stop(adopted_run.run_id)])


def test_what_cannot_be_adopted_is_refused_and_nothing_is_written(lab: Lab) -> None:
    with connect(lab.node) as connection:
        for session in ("nobody", "; touch canary", "gib-demo-20261122-101500-abcd", "a\nb", "x" * 300, "🙂"):
            with pytest.raises(GibletError) as refusal:
                adopt(lab.node, connection, session, "ada@laptop", name="n")
            assert refusal.value.exit_code == 2
    lab.begin("screen", "named")
    with pytest.raises(GibletError, match="is not a file on this node"):
        lab.adopt("named", log="/nowhere.log")
    with pytest.raises(GibletError, match="cannot name a run"):
        lab.adopt("named", name="../up")
    assert not list(Path(lab.node.workdir).glob("runs/*"))


def test_a_run_is_called_as_its_session() -> None:
    assert [run_name(text) for text in ("4242.Train.V3", "--help", "🙂", "x" * 90)] == [
        "train-v3", "help", "unnamed", "x" * 40,
    ]  # fmt: skip
