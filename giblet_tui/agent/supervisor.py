"""The parent of everything in a run: starts it, shows its output, ends all of it, records how it ended.

    python3 supervise.py RUN_DIR

run.json says what to start (`argv`, `gpus`, optionally `watcher_argv`), how long an end may take (`grace_s`), and
which GPUs to wait for first (`awaits`). `supervise.py` is this module and those that it imports in one file: it is
copied into the run directory and outlives all that it starts. Standard library only, Python >= 3.8, Linux.

It is a *subreaper*: whatever its descendants do (sessions of their own, as torchrun gives its workers; double forks; a
cleared environment), orphans become its children. So if it has no child left, nothing of the run is left.

TERM and INT end the run: TERM to the command, its grace, then KILL to what remains. QUIT ends it without the grace.
HUP, the loss of a terminal, changes nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from giblet_tui.agent import gpu_claims, layout, run_cgroup
from giblet_tui.agent.exit_record import ExitRecorder, split_status
from giblet_tui.agent.gpu_queue import GpuQueue
from giblet_tui.agent.proc import boot_id, descendants, is_paused, send, start_ticks
from giblet_tui.agent.process_list import EVERY_S, ProcessList
from giblet_tui.agent.records import read_record, write_record
from giblet_tui.agent.slot_queue import SlotQueue

LEFTOVER_GRACE_S = 10.0
"""For processes that outlive the command that started them."""
WATCHER_GRACE_S = 5.0
KILL_LIMIT_S = 30.0
"""A process that KILL has not ended by then (it hangs in the kernel) is recorded as a survivor."""

END_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """One run's parent, from its start record to its exit record."""

    def __init__(self, run_dir: str) -> None:
        """Raises OSError or ValueError if there is no readable run.json, KeyError if it lacks a field."""
        self.run_dir = os.path.realpath(run_dir)
        with open(self._path(layout.RUN), "rb") as file:
            run = json.loads(file.read().decode("utf-8"))
        self.run_id = str(run["run_id"])
        self.mark = f"{self.run_id}@{run['node_rank']}" if run.get("node_rank") else self.run_id
        self.argv = [str(word) for word in run["argv"]]
        self.watcher_argv = [str(word) for word in run.get("watcher_argv") or ()]
        self.gpus = [str(gpu) for gpu in run.get("gpus") or ()]
        self.awaits = run.get("awaits") or {}
        self.slot_queue = SlotQueue(self.run_dir, run, self._update_record) if run.get("awaits_slot") else None
        self.command = run.get("command") or {}
        self.is_scheduled = run.get("multiplexer") == "slurm"
        self.n_restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0) if self.is_scheduled else 0
        """How often Slurm has put the job back into its queue, after preemption or a failed node."""
        self.grace_s = float(run.get("grace_s", 120.0))
        self.started_at = time.time()
        self.received: set[int] = set()
        self.statuses: dict[int, int] = {}
        self.killed: set[int] = set()
        self.watcher: int | None = None
        self.claim: gpu_claims.GpuClaim | None = None

    def run(self) -> int:
        """Run it, from start to end. Returns 0 if the command ended with 0, else 1.

        Raises FileExistsError if this run already has, or had, a supervisor.
        """
        self._install_signal_handlers()
        if self.n_restarts and not self._prepare_restart():
            return 0
        exit_recorder = ExitRecorder(self.run_dir, self.run_id)
        if self.gpus:  # before the start record: until that is there, the start itself holds a claim
            self.claim = gpu_claims.claim(self.run_id, self.gpus)
        write_record(self._path(layout.SUPERVISOR), self._record(), exclusive=not self.n_restarts)
        log = os.open(self._path(layout.LOG), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        end = threading.Event()
        copier = threading.Thread(target=copy_to_terminal, args=(self._path(layout.LOG), end), daemon=True)
        copier.start()
        self.process_list = ProcessList(self.run_dir, self.mark)
        may_start = (not self.awaits or self._wait_for_gpus()) and self._wait_for_slot()
        child = self._start_command(log) if may_start else None
        survivors: set[int] = set()
        code: int | None = 127 if may_start else None
        by_signal: int | None = None
        by_itself = may_start
        if child is not None:
            holds_term = bool(self.command)
            self.watcher = self._start(self.watcher_argv, log, holds_term=holds_term) if self.watcher_argv else None
            self._wait_for_end(child)
            self._reap()
            by_itself = child in self.statuses or exit_recorder.has_failed()
            self._record_end_of_command(child)
            survivors = self._kill_tree(child)
            code, by_signal = split_status(self.statuses.get(child))
        if self.claim is not None:
            self.claim.release()
        exit_recorder.write(code, by_signal, self.killed, survivors, signal.SIGINT in self.received, by_itself)
        self.process_list.remove()
        end.set()
        copier.join(timeout=1.0)
        return int(code != 0)

    def _prepare_restart(self) -> bool:
        """Remove what the job's last start recorded of its end. Returns False if the run was asked to stop."""
        if os.path.exists(self._path(layout.STOP)):
            return False
        shutil.rmtree(self._path(layout.RANKS), ignore_errors=True)
        for name in (layout.EXIT, layout.CAUSE):
            if os.path.exists(self._path(name)):
                os.unlink(self._path(name))
        with open(self._path(layout.LOG), "a") as log:
            log.write("Slurm starts this job again; the run continues from its newest checkpoint.\n")
        return True

    def _path(self, name: str) -> str:
        return os.path.join(self.run_dir, name)

    def _record(self) -> dict[str, Any]:
        pid = os.getpid()
        return {
            "run_id": self.run_id,
            "pid": pid,
            "start_ticks": start_ticks(pid),
            "boot_id": boot_id(),
            "started_at": self.started_at,
            "argv": self.argv,
        }

    def _update_record(self, **more: Any) -> bool:
        """Add fields to supervisor.json. Returns False if the disk has no room for them."""
        try:
            write_record(self._path(layout.SUPERVISOR), dict(self._record(), **more))
        except OSError:
            return False
        return True

    def _record_end_of_command(self, child: int) -> None:
        """Record how the command ended by itself, for the watcher: exit.json is written after the watcher's end."""
        if child in self.statuses:
            code, by_signal = split_status(self.statuses[child])
            gpu_facts = {"gpus": self.gpus} if self.awaits else {}
            self._update_record(code=code, signal=by_signal, has_slot=self.slot_queue is not None, **gpu_facts)

    def _wait_for_gpus(self) -> bool:
        """Wait for GPUs and take them. Returns False if the run was asked to end meanwhile."""
        queue = GpuQueue(self.run_dir, self.run_id, self.awaits, self._update_record)
        while not self._end_requested() and not os.path.exists(self._path(layout.STOP)):
            self.claim = queue.poll()
            if self.claim is not None:
                self.gpus = self.claim.record["gpus"]
                return True
            self._wait(self._end_requested, queue.every_s)
        return False

    def _wait_for_slot(self) -> bool:
        """Wait until this run of a sweep may train. Returns False if it was asked to end meanwhile."""
        while self.slot_queue is not None and not self.slot_queue.poll():
            self._wait(self._end_requested, self.slot_queue.every_s)
            if self._end_requested() or os.path.exists(self._path(layout.STOP)):
                return False
        return True

    def _wait_for_end(self, child: int) -> None:
        """Wait until the command has ended or an end is requested; record the run's processes meanwhile."""
        while not (self._end_requested() or child in self.statuses):
            self.process_list.update(descendants([os.getpid()]))
            self._wait(lambda: self._end_requested() or child in self.statuses, EVERY_S, every_s=EVERY_S)

    def _end_requested(self) -> bool:
        return bool(self.received & END_SIGNALS)

    def _install_signal_handlers(self) -> None:
        """Become the subreaper, and let every signal end a wait."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "this kernel has no subreapers")
        self._wakeup, wake = os.pipe()
        for end in (self._wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN: an ignored signal would stay ignored in every process of the run.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: object) -> None:
        self.received.add(number)

    def _start_command(self, log: int) -> int | None:
        """Start the trainer; or a command of the user's, with its environment, in its directory."""
        environment = read_record(self._path(layout.ENVIRONMENT)) if self.command else {}
        cwd = self.command.get("cwd") or os.path.dirname(os.path.dirname(self.run_dir))
        return self._start(self.argv, log, self.claim, str(cwd), environment)

    def _start(
        self,
        argv: list[str],
        log: int,
        claim: gpu_claims.GpuClaim | None = None,
        cwd: str | None = None,
        environment: dict[str, Any] | None = None,
        holds_term: bool = False,
    ) -> int | None:
        """Start a command in a session of its own, its output appended to the log. None if it cannot be started.

        It inherits the claim, so that its GPUs stay claimed even if this supervisor is killed.

        The log itself is its standard output, not a pipe: the run needs neither this process nor a terminal to accept
        its output, and an open log marks its processes as the run's even if their environment does not.

        Args:
            cwd: where it starts; None: the working directory of giblet.
            environment: variables on top of the supervisor's own.
            holds_term: it starts with TERM blocked, and unblocks it when it can handle it. A command may end before
                its monitor is ready to look at it once.
        """
        variables = dict(
            os.environ,
            **{name: str(value) for name, value in (environment or {}).items()},
            GIBLET_RUN_ID=self.mark,
            PYTHONUNBUFFERED="1",
            # torchrun's workers must be gone before this supervisor's grace for torchrun has passed.
            TORCH_ELASTIC_SHUTDOWN_TIMEOUT=str(max(1, int(self.grace_s) - 10)),
        )
        if not self.is_scheduled:  # a scheduler has chosen the GPUs, and says so in this variable
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=cwd or os.path.dirname(os.path.dirname(self.run_dir)),
                env=variables,
                start_new_session=True,
                preexec_fn=self._prepare_process if holds_term else self._join_cgroup,
                pass_fds=() if claim is None else (claim.fd,),
            )
        except OSError as error:
            os.write(log, f"{argv[0]} cannot be started: {error.strerror}\n".encode("utf-8", "replace"))
            return None
        process.returncode = 0  # it is reaped here, with all others
        if claim is not None:
            claim.add_process(process.pid)
        return process.pid

    def _prepare_process(self) -> None:
        """Prepare a process that handles TERM itself, in the process before its command starts."""
        self._join_cgroup()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _join_cgroup(self) -> None:
        """Move a new process into the run's control group, in the process itself before its command starts."""
        if self.process_list.cgroup:
            try:
                run_cgroup.join(self.process_list.cgroup)
            except OSError:
                pass  # the list of processes remains

    def _kill_tree(self, child: int) -> set[int]:
        """End the command, all that it started, then the watcher. Returns the processes that survive even that."""
        if child not in self.statuses:
            send(child, signal.SIGTERM)
            for pid in filter(is_paused, self._tree()):
                send(pid, signal.SIGCONT)  # a paused process receives no TERM
            self._wait(lambda: child in self.statuses, self.grace_s)
        if child in self.statuses:
            for pid in self._tree():
                send(pid, signal.SIGTERM)
            # Ranks whose torchrun was killed may still write a checkpoint; leftovers of a finished run have no reason.
            grace_s = self.grace_s if os.WIFSIGNALED(self.statuses[child]) else min(self.grace_s, LEFTOVER_GRACE_S)
            self._wait(lambda: not self._tree(), grace_s)
        survivors = self._kill_all()
        if self.watcher is not None:
            watcher, self.watcher = self.watcher, None
            send(watcher, signal.SIGTERM)
            self._wait(lambda: not self._tree(), WATCHER_GRACE_S)
            survivors |= self._kill_all()
        return survivors

    def _kill_all(self) -> set[int]:
        """KILL all that is left, stopped first so that it cannot fork meanwhile. Returns what KILL did not end."""
        deadline = time.monotonic() + KILL_LIMIT_S
        n_quiet = 0
        while n_quiet < 2:
            self._reap()
            alive = self._tree()
            n_quiet = 0 if alive else n_quiet + 1
            if alive and time.monotonic() > deadline:
                return alive
            for pid in alive:
                send(pid, signal.SIGSTOP)
            for pid in self._tree() if alive else ():
                if send(pid, signal.SIGKILL):
                    self.killed.add(pid)
            self._sleep(0.01)
        return set()

    def _tree(self) -> set[int]:
        return descendants([os.getpid()], but_below=self.watcher)

    def _wait(self, condition: Callable[[], bool], limit_s: float = float("inf"), every_s: float = 0.1) -> None:
        """Reap until something is reached, the limit has passed, or an end without grace is requested."""
        deadline = time.monotonic() + limit_s
        while not condition() and signal.SIGQUIT not in self.received and time.monotonic() < deadline:
            self._sleep(min(every_s, max(0.0, deadline - time.monotonic())))
            self._reap()

    def _sleep(self, seconds: float) -> None:
        """Sleep until a signal comes, at most that long."""
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


def copy_to_terminal(path: str, end: threading.Event) -> None:
    """Show a growing log on this process's terminal, if it has one, until `ended` is set or the terminal is gone.

    Meant for a daemon thread: a terminal that takes no more bytes (flow control) blocks this thread and nothing else.
    """
    if not os.isatty(1):
        return
    with open(path, "rb") as log:
        is_last = False
        while not is_last:
            is_last = end.wait(0.2)
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
