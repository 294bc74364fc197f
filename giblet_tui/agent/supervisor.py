"""The parent of everything in a run: starts it, shows its output, ends all of it, records how it ended.

    python3 supervise.py RUN_DIR

run.json says what to start (`argv`, `gpus`, optionally `watcher_argv`), how long an ending may take (`grace_s`), and
which GPUs to wait for before (`awaits`; then gpu.py and gpu_allocation.py are next to it).
One file of standard library, Python >= 3.8, Linux: it is copied into the run directory and outlives all that it starts.

It is a *subreaper*: whatever its descendants do (sessions of their own, as torchrun gives its workers; double forks; a
cleared environment), orphans become its children. So when it has no child left, nothing of the run is left.

TERM and INT end the run: TERM to the command, its grace, then KILL to what remains. QUIT ends it without the grace.
HUP, a terminal that went away, changes nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import glob
import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LEFTOVER_GRACE_S = 10.0
"""For what outlives the command that started it."""
WATCHER_GRACE_S = 5.0
KILL_LIMIT_S = 30.0
"""What KILL has not ended by then (a process stuck in the kernel) is named as a survivor."""
FULL_DISK_LIMIT_S = 300.0

ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_PR_SET_CHILD_SUBREAPER = 36


def boot_id() -> str:
    """Which boot of this machine this is."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third, the state, on. None when the process is gone or a zombie.

    One whose first thread alone has ended is called a zombie there too, and lives: so looks a process that was killed
    while another thread of it hangs in a driver, with its GPU memory.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].decode("ascii").split()
    except OSError:
        return None
    if not fields or fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) < 2):
        return None
    return fields


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: with its pid and the boot, who it is. None when it is gone."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def descendants(roots: Iterable[int], but_below: int | None = None) -> set[int]:
    """Every living process below the roots, leaving out the process `but_below` and all below that."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(int(name)) if name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    found: set[int] = set()
    todo = list(roots)
    while todo:
        below = [pid for pid in children.get(todo.pop(), ()) if pid != but_below and pid not in found]
        found.update(below)
        todo += below
    return found


def send(pid: int, sent: int) -> bool:
    """Signal a process: False when it is gone, or is another user's."""
    try:
        os.kill(pid, sent)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def write_json(path: str, value: dict[str, Any], exclusive: bool = False) -> None:
    """Put a record at `path`, whole and synced, mode 0600. exclusive: FileExistsError when there is one already."""
    aside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(value, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(aside, path)
        else:
            os.replace(aside, path)
    finally:
        if os.path.lexists(aside):
            os.unlink(aside)


def oom_kills() -> int:
    """How many processes of this control group the kernel killed for want of memory; 0 where nothing counts them."""
    with open("/proc/self/cgroup") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in groups:
        version_1 = "memory" in controllers.split(",")
        counter = f"memory{path}/memory.oom_control" if version_1 else f"{path.lstrip('/')}/memory.events"
        if version_1 or not controllers:
            try:
                with open(f"/sys/fs/cgroup/{counter}") as file:
                    return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            except OSError:
                continue
    return 0


class Supervisor:
    """One run's parent, from its start record to its exit record."""

    def __init__(self, run_dir: str) -> None:
        """Raises OSError or ValueError when there is no readable run.json, KeyError when it lacks a field."""
        self.run_dir = os.path.realpath(run_dir)
        with open(self._path("run.json"), "rb") as file:
            run = json.loads(file.read().decode("utf-8"))
        self.run_id = str(run["run_id"])
        self.mark = f"{self.run_id}@{run['node_rank']}" if run.get("node_rank") else self.run_id
        self.argv = [str(word) for word in run["argv"]]
        self.watcher_argv = [str(word) for word in run.get("watcher_argv") or ()]
        self.gpus = [str(gpu) for gpu in run.get("gpus") or ()]
        self.awaits = run.get("awaits") or {}
        self.grace_s = float(run.get("grace_s", 120.0))
        self.received: set[int] = set()
        self.statuses: dict[int, int] = {}
        self.killed: set[int] = set()
        self.watcher: int | None = None

    def run(self) -> int:
        """Run it, from start to end. 0 when the command ended with 0, else 1.

        Raises FileExistsError when this run already has, or had, a supervisor.
        """
        self._install_signal_handlers()
        oom_before = oom_kills()
        write_json(self._path("supervisor.json"), self._record(), exclusive=True)
        log = os.open(self._path("train.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        done = threading.Event()
        copier = threading.Thread(target=copy_to_terminal, args=(self._path("train.log"), done), daemon=True)
        copier.start()
        free = not self.awaits or self._await_gpus()
        child = self._start(self.argv, log) if free else None
        survivors: set[int] = set()
        code: int | None = 127 if free else None
        by_signal: int | None = None
        by_itself = free
        if child is not None:
            self.watcher = self._start(self.watcher_argv, log) if self.watcher_argv else None
            self._wait(lambda: bool(self.received & ENDING) or child in self.statuses, every_s=5.0)
            self._reap()
            by_itself = child in self.statuses or self._has_failed(oom_before)
            survivors = self._kill_tree(child)
            code, by_signal = split_status(self.statuses.get(child))
        record = self._exit_record(code, by_signal, survivors, oom_kills() - oom_before)
        self._record_exit(dict(record, by_itself=by_itself))
        done.set()
        copier.join(timeout=1.0)
        return int(code != 0)

    def _path(self, name: str) -> str:
        return os.path.join(self.run_dir, name)

    def _record(self) -> dict[str, Any]:
        pid = os.getpid()
        return {
            "run_id": self.run_id,
            "pid": pid,
            "start_ticks": start_ticks(pid),
            "boot_id": boot_id(),
            "started_at": time.time(),
            "argv": self.argv,
        }

    def _await_gpus(self) -> bool:
        """Wait until enough GPUs were free at two looks in a row, and take them; False when it was ended meanwhile."""
        gpu, allocation = self._load("gpu"), self._load("gpu_allocation")
        wanted, among, every_s = self.awaits["n_gpus"], set(self.awaits["among"]), self.awaits["every_s"]
        before: list[str] = []
        said = ""
        while not self.received & ENDING and not os.path.exists(self._path("stop")):
            with open(self._path("../../.gpus-%s.lock" % os.uname().nodename), "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                seen = gpu.query_gpus()
                taken, ahead, behind = self._others(among)
                free = [g["uuid"] for g in allocation.choose(seen["gpus"], len(seen["gpus"])) if g["uuid"] not in taken]
                steady = [uuid for uuid in allocation.free_after_queue(free, ahead) if uuid in among and uuid in before]
                # Taken only once it is written, for that is what others go by: a full disk may let it wait longer.
                if len(steady) >= wanted and self._tell(gpus=steady[:wanted]):
                    self.gpus = steady[:wanted]
                    return True
            place = len(ahead) + 1 if ahead or behind else 0
            n_free = sum(uuid in among for uuid in free)
            sentence = waiting_sentence(wanted, n_free, len(among), str(seen["gpu_note"]), place)
            if sentence != said and self._tell(waiting_for=sentence):
                said = sentence
            before = free
            self._wait(lambda: bool(self.received & ENDING), every_s)
        return False

    def _load(self, name: str) -> Any:
        """Import a module whose copy is in the run directory."""
        spec = importlib.util.spec_from_file_location(name, self._path(name + ".py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def _tell(self, **more: Any) -> bool:
        """Replace the start record by one that says more; False when the disk has no room for it."""
        try:
            write_json(self._path("supervisor.json"), dict(self._record(), **more))
        except OSError:
            return False
        return True

    def _others(self, among: set[str]) -> tuple[set[str], list[dict[str, Any]], int]:
        """The GPUs that living runs of this folder have, whether or not they hold memory yet; what those that wait for
        some of `among` since before this one wait for, the first first; and how many came after it.
        """
        folder = os.path.dirname(self.run_dir)
        taken: set[str] = set()
        ahead, n_behind = [], 0
        own = (start_ticks(os.getpid()) or 0, self.run_id)
        for run, supervisor in living_runs(folder):
            taken.update(run.get("gpus") or (), supervisor.get("gpus") or ())
            awaits, key = run.get("awaits"), (supervisor["start_ticks"], str(run.get("run_id")))
            if key == own or not awaits or supervisor.get("gpus") or not among & set(awaits["among"]):
                continue
            if key > own:
                n_behind += 1
            elif not os.path.exists(os.path.join(folder, key[1], "stop")):
                ahead.append((key, awaits))
        return taken, [awaits for _, awaits in sorted(ahead, key=lambda each: each[0])], n_behind

    def _has_failed(self, oom_before: int) -> bool:
        """Had it failed before it is told to end? Its processes may take a minute to leave after the first failed."""
        try:
            with open(self._path("heartbeat.json")) as file:
                state = json.load(file)["state"]
        except (OSError, ValueError, KeyError, TypeError):
            state = ""
        told_by = glob.glob(glob.escape(self._path("ranks")) + "/*/attempt_*/*/error.json")
        return (
            state == "failed" or bool(told_by) or os.path.exists(self._path("cause.json")) or oom_kills() > oom_before
        )

    def _exit_record(self, code: int | None, by_signal: int | None, survivors: set[int], oom: int) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "ended_at": time.time(),
            "code": code,
            "signal": by_signal,
            "killed": sorted(self.killed),
            "survivors": sorted(survivors),
            # TERM alone may come from a shutdown; `giblet stop` leaves its file first.
            "stop_requested": signal.SIGINT in self.received or os.path.exists(self._path("stop")),
            "oom_kills": oom,
        }

    def _record_exit(self, record: dict[str, Any]) -> None:
        """Write exit.json; where the disk is full, wait for room. Raises OSError when there is none for long."""
        deadline = time.monotonic() + FULL_DISK_LIMIT_S
        while True:
            try:
                return write_json(self._path("exit.json"), record)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def _install_signal_handlers(self) -> None:
        """Become the subreaper, and let every signal end a wait."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "this kernel has no subreapers")
        self._wakeup, wake = os.pipe()
        for end in (self._wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN: what is ignored would stay ignored in every process of the run.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: object) -> None:
        self.received.add(number)

    def _start(self, argv: list[str], log: int) -> int | None:
        """Start a command in a session of its own, its output appended to the log. None when it cannot be started.

        The log itself is its standard output, no pipe: the run does not depend on this process, or any terminal, to
        take what it prints, and an open log marks its processes as the run's even when their environment does not.
        """
        environment = dict(
            os.environ,
            GIBLET_RUN_ID=self.mark,
            CUDA_VISIBLE_DEVICES=",".join(self.gpus),
            PYTHONUNBUFFERED="1",
            # torchrun's workers must be gone before this supervisor's own patience with torchrun is.
            TORCH_ELASTIC_SHUTDOWN_TIMEOUT=str(max(1, int(self.grace_s) - 10)),
        )
        workdir = os.path.dirname(os.path.dirname(self.run_dir))
        try:
            started = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=workdir,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            os.write(log, f"{argv[0]} cannot be started: {error.strerror}\n".encode("utf-8", "replace"))
            return None
        started.returncode = 0  # it is reaped here, with all others
        return started.pid

    def _kill_tree(self, child: int) -> set[int]:
        """End the command, all that it started, then the watcher. The processes that survive even that."""
        if child not in self.statuses:
            send(child, signal.SIGTERM)
            self._wait(lambda: child in self.statuses, self.grace_s)
        if child in self.statuses:
            left = self._tree()
            for pid in left:
                send(pid, signal.SIGTERM)
            # Ranks whose torchrun was killed may still write a checkpoint; what a finished run leaves behind may not.
            patience_s = self.grace_s if os.WIFSIGNALED(self.statuses[child]) else min(self.grace_s, LEFTOVER_GRACE_S)
            self._wait(lambda: not self._tree(), patience_s)
        survivors = self._kill_all()
        if self.watcher is not None:
            watcher, self.watcher = self.watcher, None
            send(watcher, signal.SIGTERM)
            self._wait(lambda: not self._tree(), WATCHER_GRACE_S)
            survivors |= self._kill_all()
        return survivors

    def _kill_all(self) -> set[int]:
        """KILL whatever is left, stopped first so that it cannot fork meanwhile. What KILL did not end."""
        deadline = time.monotonic() + KILL_LIMIT_S
        quiet = 0
        while quiet < 2:
            self._reap()
            left = self._tree()
            quiet = 0 if left else quiet + 1
            if left and time.monotonic() > deadline:
                return left
            for pid in left:
                send(pid, signal.SIGSTOP)
            for pid in self._tree() if left else ():
                if send(pid, signal.SIGKILL):
                    self.killed.add(pid)
            self._sleep(0.01)
        return set()

    def _tree(self) -> set[int]:
        return descendants([os.getpid()], but_below=self.watcher)

    def _wait(self, reached: Callable[[], bool], limit_s: float = float("inf"), every_s: float = 0.1) -> None:
        """Reap until something is reached, the limit has passed, or an end without grace is asked for."""
        deadline = time.monotonic() + limit_s
        while not reached() and signal.SIGQUIT not in self.received and time.monotonic() < deadline:
            self._sleep(min(every_s, max(0.0, deadline - time.monotonic())))
            self._reap()

    def _sleep(self, seconds: float) -> None:
        """Until a signal comes, at most that long."""
        if select.select([self._wakeup], [], [], seconds)[0]:
            os.read(self._wakeup, 4096)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.statuses[pid] = status


def living_runs(folder: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """run.json and supervisor.json of each run in a folder whose supervisor lives on this machine."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.exists(os.path.join(path, "exit.json")):
            continue
        try:
            with open(os.path.join(path, "supervisor.json")) as file:
                supervisor = json.load(file)
            with open(os.path.join(path, "run.json")) as file:
                run = json.load(file)
            if supervisor["boot_id"] == boot_id() and start_ticks(supervisor["pid"]) == supervisor["start_ticks"]:
                yield run, supervisor
        except (OSError, ValueError, KeyError, TypeError):
            continue


def waiting_sentence(wanted: int, free: int, among: int, note: str, place: int = 0) -> str:
    """What a run waits for, for people. place: in the line of those that wait, from 1; 0 where no other does."""
    state = note or "%d of %d are free" % (free, among)
    line = "; number %d in line" % place if place else ""
    return "%d free %s (%s%s)" % (wanted, "GPU" if wanted == 1 else "GPUs", state, line)


def split_status(status: int | None) -> tuple[int | None, int | None]:
    """(exit code, signal) of a wait status; one of them, or both when it was never reaped, is None."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def copy_to_terminal(path: str, done: threading.Event) -> None:
    """Show a growing log on this process's terminal, if it has one, until `done`. A terminal that is gone ends it.

    Meant for a daemon thread: a terminal that takes no more bytes (flow control) blocks this thread and nothing else.
    """
    if not os.isatty(1):
        return
    with open(path, "rb") as log:
        last = False
        while not last:
            last = done.wait(0.2)
            for chunk in iter(lambda: log.read(65536), b""):
                try:
                    while chunk:
                        chunk = chunk[os.write(1, chunk) :]
                except OSError:
                    return


def main(argv: list[str]) -> int:
    """Supervise the run directory named on the command line."""
    if len(argv) != 2:
        sys.stderr.write("usage: python3 supervise.py RUN_DIR\n")
        return 2
    try:
        return Supervisor(argv[1]).run()
    except FileExistsError:
        sys.stderr.write(f"{argv[1]} already has a supervisor; a run is started once.\n")
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"This run cannot be supervised: {type(error).__name__}: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
