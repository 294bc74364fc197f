"""The supervisor as a program: what it records, what it shows, and that nothing below it survives it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from giblet_train.schema.records import Exit, Run, SupervisorRecord, decode
from giblet_train.schema.run_dir import new_run_id, write_record
from giblet_tui.agent import proc
from giblet_tui.connection import agent_bundle

RUN_ID = new_run_id("demo")
"""Of this session alone: a supervisor counts every process on the machine that has its run id as its own."""
PYTHON38 = shutil.which("python3.8")
SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
IGNORES_TERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def until(condition, limit_s=120.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.01)


def living(pid):
    return proc.start_ticks(pid) is not None


class Supervised:
    """A run directory and its supervisor, started as a launch would."""

    def __init__(self, folder: Path, program: str | list[str], *, grace_s=1.0, gpus=(), python=sys.executable, **extra):
        self.dir = folder / "runs" / RUN_ID
        self.dir.mkdir(parents=True)
        argv = [sys.executable, "-c", program] if isinstance(program, str) else program
        run = Run(
            run_id=RUN_ID, name="demo", node="local", session=f"gib-{RUN_ID}", multiplexer="process", argv=tuple(argv),
            config_hash="0" * 12, giblet_version="0", launched_by="test", launched_at=0.0, grace_s=grace_s, gpus=gpus,
        )  # fmt: skip
        write_record(self.dir / "run.json", run)
        if extra:
            (self.dir / "run.json").write_text(json.dumps({**json.loads((self.dir / "run.json").read_text()), **extra}))
        script = self.dir / "supervise.py"
        script.write_text(agent_bundle.supervisor_script())
        script.chmod(0o600)
        self.argv = [python, "-I", str(script), str(self.dir)]
        self.process = None

    def start(self, **streams):
        self.process = subprocess.Popen(self.argv, start_new_session=True, umask=0o077, **streams)
        return self

    def ended(self) -> Exit:
        self.process.wait(120)
        return decode((self.dir / "exit.json").read_bytes(), Exit)

    def log(self) -> str:
        path = self.dir / "train.log"
        return path.read_text() if path.exists() else ""

    def until_up(self):
        until(lambda: "up" in self.log())
        return self


@pytest.fixture
def supervise(tmp_path):
    runs = []

    def make(program, **options):
        runs.append(Supervised(tmp_path, program, **options))
        return runs[-1]

    yield make
    for run in runs:
        if run.process and run.process.poll() is None:
            run.process.send_signal(signal.SIGQUIT)
            run.process.wait(120)


def test_records_start_and_end(supervise):
    before = time.time()
    run = supervise("print('up'); raise SystemExit(7)").start()
    pid = run.process.pid
    end = run.ended()
    began = decode((run.dir / "supervisor.json").read_bytes(), SupervisorRecord)
    assert (began.run_id, began.pid, began.boot_id) == (RUN_ID, pid, proc.boot_id())
    assert began.start_ticks > 0 and began.argv[-1].startswith("print")
    assert (end.run_id, end.code, end.signal) == (RUN_ID, 7, None)
    assert not end.killed and not end.survivors and not end.stop_requested
    assert before <= began.started_at <= end.ended_at <= time.time()
    assert run.log() == "up\n"
    assert {p.stat().st_mode & 0o777 for p in run.dir.iterdir() if p.name != "run.json"} == {0o600}


def test_the_command_runs_in_the_working_directory_with_its_mark_and_gpus(supervise):
    names = "GIBLET_RUN_ID", "CUDA_VISIBLE_DEVICES", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    shows = f"import os; print(os.getcwd(), *map(os.environ.get, {names}), os.getsid(0) == os.getpid())"
    run = supervise(shows, gpus=("GPU-a", "GPU-b"), grace_s=50).start()
    assert run.ended().code == 0
    assert run.log().split() == [str(run.dir.parent.parent), RUN_ID, "GPU-a,GPU-b", "40", "True"]


def test_death_by_signal_is_recorded(supervise):
    assert supervise("import os; os.kill(os.getpid(), 11)").start().ended().signal == signal.SIGSEGV


def test_a_command_that_cannot_start_is_named(supervise):
    run = supervise(["/no/such/python", "x"]).start()
    assert run.ended().code == 127
    assert run.log() == "/no/such/python cannot be started: No such file or directory\n"


def test_term_ends_within_the_grace_then_kills(supervise):
    run = supervise(IGNORES_TERM, grace_s=0.5).start().until_up()
    began = time.monotonic()
    run.process.terminate()
    end = run.ended()
    assert 0.5 <= time.monotonic() - began < 40.0
    assert end.signal == signal.SIGKILL and len(end.killed) == 1 and not end.stop_requested


def test_term_lets_a_trainer_save(supervise, tmp_path):
    saves = (
        "import signal, sys, time, pathlib\n"
        f"def save(*_): time.sleep(0.4); pathlib.Path({str(tmp_path / 'saved')!r}).touch(); sys.exit(75)\n"
        "signal.signal(15, save); print('up', flush=True); time.sleep(60)"
    )
    run = supervise(saves, grace_s=20).start().until_up()
    run.process.terminate()
    assert run.ended().code == 75 and (tmp_path / "saved").exists()


@pytest.mark.parametrize("is_asked", [False, True])
def test_a_failure_next_to_a_stop_file_is_its_own_unless_the_supervisor_was_asked_to_end(supervise, is_asked):
    fails = (
        "import pathlib, signal, sys, time; signal.signal(15, lambda *_: sys.exit(1)); print('up', flush=True)\n"
        f"while {is_asked} or not pathlib.Path('runs/{RUN_ID}/stop').exists(): time.sleep(0.01)\n"
        "sys.exit(1)"
    )
    run = supervise(fails).start().until_up()
    (run.dir / "stop").touch()
    if is_asked:
        run.process.terminate()
    end = run.ended()
    assert (end.code, end.stop_requested, end.by_itself) == (1, True, not is_asked)


@pytest.mark.parametrize("told_by", ["heartbeat.json", "ranks/r/attempt_0/3/error.json", "cause.json", ""])
def test_what_failed_before_it_was_told_to_end_has_failed(supervise, told_by):
    """Told at once, as by `stop --force`, while the other processes of the run have not left yet."""
    fails = (
        "import os, time\n"
        f"path = 'runs/{RUN_ID}/{told_by or 'other'}'\n"
        "os.makedirs(os.path.dirname(path), exist_ok=True)\n"
        "open(path, 'w').write('{\"state\": \"failed\"}'); print('up', flush=True); time.sleep(600)"
    )
    run = supervise(fails).start().until_up()
    (run.dir / "stop").touch()
    run.process.send_signal(signal.SIGQUIT)
    end = run.ended()
    assert (end.code, end.stop_requested, end.by_itself) == (None, True, bool(told_by))


def test_quit_does_not_wait(supervise):
    run = supervise(IGNORES_TERM, grace_s=60).start().until_up()
    run.process.send_signal(signal.SIGQUIT)
    began = time.monotonic()
    assert run.ended().signal == signal.SIGKILL and time.monotonic() - began < 40.0


def test_a_hang_up_changes_nothing_and_is_not_inherited(supervise):
    run = supervise(
        "import signal; print('up', signal.getsignal(1) == signal.SIG_DFL, flush=True); import time; time.sleep(60)"
    )
    run.start().until_up()
    run.process.send_signal(signal.SIGHUP)
    run.process.send_signal(signal.SIGCHLD)
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(0.3)
    assert "up True" in run.log()
    run.process.send_signal(signal.SIGINT)
    assert run.ended().stop_requested


def test_what_a_finished_command_leaves_is_ended(supervise):
    leaves = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-c', {IGNORES_TERM!r}], start_new_session=True, env={{}}, stdout=-1)\n"
        "p.stdout.readline(); print('left', p.pid)"
    )
    run = supervise(leaves, grace_s=0.5).start()
    end = run.ended()
    pid = int(run.log().split("left ")[1].split()[0])
    assert end.code == 0 and end.killed == (pid,) and not living(pid)


def test_a_second_supervisor_is_refused(supervise):
    run = supervise(SLEEPS).start().until_up()
    second = subprocess.run(run.argv, capture_output=True, text=True, timeout=120)
    assert second.returncode == 1 and "already has a supervisor" in second.stderr
    assert decode((run.dir / "supervisor.json").read_bytes(), SupervisorRecord).pid == run.process.pid


def test_a_directory_without_a_run_is_refused_in_words(tmp_path):
    script = tmp_path / "supervise.py"
    script.write_text(agent_bundle.supervisor_script())
    refusal = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True)
    assert refusal.returncode == 1
    assert (
        refusal.stderr.startswith("This run cannot be supervised: FileNotFoundError") and "Trace" not in refusal.stderr
    )


def test_the_watcher_is_ended_last(supervise, tmp_path):
    notes = tmp_path / "watched"
    watch = f"""
import os, pathlib, signal, time
def end(*_):
    pid = pathlib.Path({str(tmp_path / "pid")!r}).read_text()
    pathlib.Path({str(notes)!r}).write_text(str(os.path.exists('/proc/' + pid)))
    raise SystemExit
signal.signal(15, end)
print('up', flush=True)
while True: time.sleep(60)
"""
    part, pid = str(tmp_path / "pid.part"), str(tmp_path / "pid")
    trains = (
        f"import os, time; open({part!r}, 'w').write(str(os.getpid())); os.rename({part!r}, {pid!r}); time.sleep(60)"
    )
    run = supervise(trains, grace_s=5, watcher_argv=[sys.executable, "-c", watch]).start().until_up()
    until((tmp_path / "pid").exists)
    run.process.terminate()
    assert run.ended().signal == signal.SIGTERM
    assert notes.read_text() == "False"


def test_the_terminal_shows_the_log_and_may_go_away(supervise):
    """Raw bytes on the terminal; then the terminal closes, and the run goes on writing to its log."""
    prints = "import time\nfor i in range(60): print('line', i, '\\x1b[31m', flush=True); time.sleep(0.02)"
    run = supervise(prints)
    ours, theirs = pty.openpty()
    run.start(stdin=theirs, stdout=theirs)
    os.close(theirs)
    output = b""
    while b"line 20 " not in output:
        output += os.read(ours, 4096)
    assert b"line 0 \x1b[31m\r\n" in output
    os.close(ours)
    assert run.ended().code == 0
    assert run.log().splitlines()[-1].startswith("line 59")


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_run(supervise):
    run = supervise("print('x' * 1_000_000)")
    ours, theirs = pty.openpty()
    run.start(stdin=theirs, stdout=theirs)
    assert run.ended().code == 0
    assert len(run.log()) == 1_000_001
    os.close(ours), os.close(theirs)


FILLS = """
import os, sys, time
while f'"{os.getpid()}"' not in open(sys.argv[1]).read():  # a record that is being replaced would leave room
    time.sleep(0.01)
open('fill', 'wb', buffering=0).write(b'x' * 500_000)
raise SystemExit(3)
"""


def test_an_end_on_a_full_disk_is_recorded_once_there_is_room(supervise, tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs a small file system of its own, which only root may mount")
    try:
        processes = tmp_path / "runs" / RUN_ID / "processes.json"
        run = supervise([sys.executable, "-c", FILLS, str(processes)]).start()
        until(lambda: (tmp_path / "fill").exists() and not proc.descendants([run.process.pid]))
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(1.0)
        assert not (run.dir / "exit.json").exists()
        (tmp_path / "fill").unlink()
        assert run.ended().code == 3
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.fixture
def memory_group():
    """Yield a control group of this test that may have 64 MiB."""
    version_1, version_2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    group = (version_1 if version_1.is_dir() else version_2) / f"giblet-test-{os.getpid()}"
    limits = {"memory.limit_in_bytes": 64 << 20, "memory.max": 64 << 20, "memory.swap.max": 0}
    try:
        group.mkdir()
        set_ = [name for name in limits if (group / name).exists()]
        for name in set_:
            (group / name).write_text(str(limits[name]))
    except OSError:
        set_ = []
    if not {"memory.limit_in_bytes", "memory.max"} & set(set_):
        pytest.skip("may not make a memory control group here")
    yield group
    until(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def test_a_kill_for_want_of_memory_is_counted(supervise, memory_group):
    run = supervise("held = [bytes(1 << 20) + b'x' for _ in range(200)]")
    run.argv = ["sh", "-c", f'echo $$ > {memory_group}/cgroup.procs && exec "$@"', "sh", *run.argv]
    end = run.start().ended()
    assert (end.signal, end.oom_kills) == (signal.SIGKILL, 1)


@pytest.mark.skipif(PYTHON38 is None, reason="no python3.8 here (the oldest a node may have)")
def test_runs_on_the_oldest_python_a_node_may_have(supervise):
    probe = subprocess.run([PYTHON38, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip("python3.8 is a shim without an interpreter")
    run = supervise("print('up')", python=PYTHON38).start()
    assert run.ended().code == 0


def test_the_script_holds_its_modules_unchanged():
    script = agent_bundle.supervisor_script()
    supervisor_modules = {agent_bundle.full_name(name) for name in agent_bundle.SUPERVISOR_MODULES}
    for name, source in agent_bundle.agent_sources().items():
        assert (source in script) == (name in supervisor_modules)
        assert "'''" not in source


def test_descendants_leave_out_a_branch():
    tree = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"])
    try:
        until(lambda: len(proc.descendants([tree.pid])) == 2)
        first, second = sorted(proc.descendants([tree.pid]))
        assert proc.descendants([tree.pid], but_below=first) == {second}
        assert {tree.pid, first, second} <= proc.descendants([os.getpid()])
    finally:
        for pid in [tree.pid, *proc.descendants([tree.pid])]:
            os.kill(pid, signal.SIGKILL)
        tree.wait()
