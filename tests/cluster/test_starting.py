"""Starting a run on a node: whole or not at all, once, and by a supervisor that is really there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from giblet_train.schema.records import Run, SupervisorRecord, decode
from giblet_tui.agent import run_processes, sessions, start_run
from giblet_tui.agent.main import AgentRefusal
from tests.cluster import trees
from tests.cluster.ground import KINDS, make_ground, require  # noqa: F401 - make_ground is the fixture `ground`
from tests.cluster.nodes import wait_until

SLEEPS = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_leaves_a_whole_run(ground, kind):
    require(kind)
    steps: list[str] = []
    run_id = ground.start(SLEEPS, kind, emit=lambda event: steps.append(event["step"]))
    path = ground.workdir / "runs" / run_id
    record = decode((path / "run.json").read_bytes(), Run)
    supervisor = decode((path / "supervisor.json").read_bytes(), SupervisorRecord)
    assert record.multiplexer == kind and abs(record.launched_at - time.time()) < 60
    assert ground.run(run_id).supervisor() == supervisor.pid
    assert {"config.yaml", "launch.sh", "run.json", "supervise.py", "supervisor.json"} <= set(os.listdir(path))
    assert path.stat().st_mode & 0o777 == 0o700
    assert all(p.stat().st_mode & 0o077 == 0 for p in path.iterdir())
    assert [k for k, _ in sessions.find_session(f"gib-{run_id}")] == ([] if kind == "process" else [kind])
    assert steps[0] == "checking the node" and steps[-1] == "the supervisor is running"
    wait_until(lambda: (path / "train.log").exists() and "up" in (path / "train.log").read_text())


def test_the_terminal_of_a_session_shows_the_log(ground):
    require("tmux")
    run_id = ground.start(SLEEPS, "tmux")
    pane = ["tmux", "-L", "giblet", "capture-pane", "-p", "-t", f"=gib-{run_id}:"]
    wait_until(lambda: "up" in subprocess.run(pane, capture_output=True, text=True).stdout)


def test_marks_do_not_leak_into_the_next_run(ground):
    """A tmux server remembers the environment of its first client."""
    require("tmux")
    first, second = (ground.start(SLEEPS, "tmux") for _ in range(2))
    assert set(ground.run(first).processes()).isdisjoint(ground.run(second).processes())
    assert ground.stop(first, grace_s=0.5)["survivors"] == []
    assert ground.run(second).supervisor()


def test_the_same_configuration_starts_once_unless_again(ground):
    first = ground.start(SLEEPS, "process", config_hash="abc")
    with pytest.raises(AgentRefusal, match=f"already runs here: {first}, launched by tester@laptop at 20") as refusal:
        ground.start(SLEEPS, "process", config_hash="abc")
    assert refusal.value.exit_code == 5 and "--again" in refusal.value.remedy
    assert ground.runs() == [first]
    start_run.start(ground.arguments(ground.record(SLEEPS, config_hash="abc"), "process", again=True), print)
    assert len(ground.runs()) == 2


def test_of_eight_starts_at_once_one_wins(ground):
    """Eight processes, as from eight laptops."""
    requests = [ground.arguments(ground.record(SLEEPS, config_hash="abc"), "process") for _ in range(8)]
    program = (
        "import json, sys\nfrom giblet_tui.agent import main as agent, start_run as starting\n"
        "try: starting.start(json.load(sys.stdin), lambda event: None); print('won')\n"
        "except agent.AgentRefusal as refusal: print(refusal.sentence)"
    )

    def start(arguments):
        return subprocess.run(
            [sys.executable, "-c", program], input=json.dumps(arguments), capture_output=True, text=True, timeout=100
        ).stdout.strip()

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(start, requests))
    assert outcomes.count("won") == 1
    assert all("already runs here" in sentence for sentence in outcomes if sentence != "won")
    assert len(ground.runs()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_killed_at_any_step_never_doubles(ground, kind):
    """kill -9 at the Nth step, for every N: then the same configuration starts, and only one tree lives."""
    require(kind)
    at, is_finished = 0, False
    while not is_finished:
        tag = f"tree-{random.randrange(16**8):08x}"
        ground.tags.append(tag)
        record = ground.record(trees.argv("T1", tag), config_hash=tag)
        is_finished = _start_and_die_at(at, ground.arguments(record, kind))
        again = ground.record(trees.argv("T1", tag), config_hash=tag)
        try:
            start_run.start(ground.arguments(again, kind), lambda event: None)
        except AgentRefusal as refusal:
            assert record["run_id"] in refusal.sentence
        live = [run for run in run_processes.all_runs(str(ground.workdir)) if run.processes()]
        assert len(live) == 1
        wait_until(lambda tag=tag: len(trees.living(tag)) == trees.SIZE["T1"])
        assert ground.runs() == [live[0].run_id]
        assert ground.stop(live[0].run_id, grace_s=0.5)["survivors"] == []
        assert not trees.living(tag)
        assert len(sessions.find_session(live[0].session)) == 0
        (ground.workdir / "runs" / live[0].run_id).rename(ground.workdir / f"done-{at}")
        at += 1
    assert at >= 6


def _start_and_die_at(step: int, arguments: dict) -> bool:
    """Start a run in a child that kills itself at its Nth report. True when there was no such report."""
    reports = 0

    def emit(_event):
        nonlocal reports
        if reports == step:
            os.kill(os.getpid(), signal.SIGKILL)
        reports += 1

    child = os.fork()
    if child == 0:
        try:
            start_run.start(arguments, emit)
        finally:
            os._exit(0)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


def test_a_multiplexer_that_is_not_there_is_refused(ground, monkeypatch, tmp_path):
    for program in ("sh", "env"):
        (tmp_path / program).symlink_to(f"/usr/bin/{program}")
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind in ("tmux", "screen"):
        with pytest.raises(AgentRefusal, match=f"{kind} is not installed on this node"):
            ground.start(SLEEPS, kind)
    assert ground.runs() == []
    assert ground.run(ground.start(SLEEPS, "process")).supervisor()


def test_a_multiplexer_that_cannot_work_is_refused(ground, monkeypatch):
    require("tmux")
    monkeypatch.setenv("TMUX_TMPDIR", "/proc")
    with pytest.raises(AgentRefusal, match=r"tmux cannot open a session here: .*/proc/tmux-"):
        ground.start(SLEEPS, "tmux")
    assert ground.runs() == []


def test_a_file_system_without_locks_is_named(ground, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(start_run.fcntl, "flock", flock)
    with pytest.raises(AgentRefusal, match="No locks available; nothing was started") as refusal:
        ground.start(SLEEPS, "process")
    assert "local disk" in refusal.value.remedy and ground.runs() == []


def test_a_supervisor_that_cannot_start_leaves_nothing_and_says_why(ground):
    for kind in KINDS:
        require(kind)
        arguments = ground.arguments(ground.record(SLEEPS), kind)
        arguments["files"]["supervise.py"] = "import sys; sys.exit('no such thing as luck')"
        with pytest.raises(AgentRefusal, match="did not start: no such thing as luck"):
            start_run.start(arguments, lambda event: None)
        assert ground.runs() == []


def test_a_session_name_that_is_taken_is_refused(ground):
    require("screen")
    record = ground.record(SLEEPS)
    sessions.backend_of("screen").start(record["session"], ["/bin/sh", "-c", "sleep 60"])
    with pytest.raises(AgentRefusal, match="already open"):
        start_run.start(ground.arguments(record, "screen"), lambda event: None)
    assert ground.runs() == []
    assert sessions.kill_session(record["session"]) == ["screen"]


@contextlib.contextmanager
def file_system(ground, options):
    """Use a small tmpfs as the working directory while entered; needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    ground.workdir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(ground.workdir)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(ground.workdir)], check=True)


def assert_no_room(ground):
    with pytest.raises(AgentRefusal, match="No space left on device; nothing was started") as refusal:
        ground.start(SLEEPS, "process")
    assert refusal.value.exit_code == 5 and ground.runs() == []


def test_a_full_disk_starts_nothing(ground):
    with file_system(ground, "size=64k"):
        (ground.workdir / "fill").write_bytes(b"x" * 60_000)
        assert_no_room(ground)


def test_a_file_system_without_inodes_is_named(ground):
    """The supervisor is there, but can write neither its record nor the log that would say why."""
    # One each for its root, the lock, runs/, the run and its five files.
    with file_system(ground, "size=10m,nr_inodes=8"):
        assert_no_room(ground)


@pytest.mark.parametrize(
    "run_id", ["../../etc", "--help", "; rm -rf /", "a" * 300, "demo\n", "demo-20260101-120000-abcd\n", "🧠"]
)
def test_hostile_names_are_refused(ground, run_id):
    with pytest.raises(AgentRefusal):
        start_run.start(ground.arguments({**ground.record(SLEEPS), "run_id": run_id}, "process"), lambda event: None)
    with pytest.raises(AgentRefusal, match="is not a run id"):
        ground.stop(run_id)
    assert not ground.workdir.exists()


def test_the_script_quotes_whatever_a_path_holds(tmp_path):
    run_dir = tmp_path / "a 'b' $(touch canary) `touch canary`;#\"" / "demo-20260101-120000-abcd"
    run_dir.mkdir(parents=True)
    (run_dir / "supervise.py").write_text("import sys, os; print(sys.argv[1], os.environ['GIBLET_RUN_ID'])")
    (run_dir / "launch.sh").write_text(start_run.script(sys.executable, str(run_dir)))
    result = subprocess.run(["/bin/sh", str(run_dir / "launch.sh")], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout == f"{run_dir} {run_dir.name}\n"
    assert not re.search("canary", " ".join(os.listdir(tmp_path)).replace(run_dir.parent.name, ""))
