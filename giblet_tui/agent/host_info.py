"""Describes a node's current state: name, clock, processors, memory, disk, GPUs, sessions.

Part of the agent: standard library only, Python >= 3.8. Sizes in GiB, times in seconds.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import gpu_state, layout, machine, private_dirs, run_processes, sessions, slurm
from giblet_tui.agent.main import Emit, Operation, home_path
from giblet_tui.agent.proc import boot_id, user_name
from giblet_tui.agent.run_command import answer

_GIB = 1024.0**3
_ASK_LIMIT_S = 3.0


def probe(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Return everything that giblet needs to know before it works on a node. arguments: workdir."""
    workdir = os.path.realpath(home_path(arguments["workdir"]))
    session_problems = sessions.problems()
    return {
        "now": time.time(),
        "boot_id": this_boot(),
        "machine_id": machine.machine_id(),
        "user": user_name(os.getuid()),
        "home": os.path.expanduser("~"),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "system": f"{platform.system()} {platform.release()}",
        "tmux": shutil.which("tmux"),
        "screen": shutil.which("screen"),
        "session_kinds": [
            kind for kind, backend in sessions.BACKENDS.items() if backend.program() and kind not in session_problems
        ],
        "session_problems": session_problems,
        "has_scheduler": slurm.is_configured(),
        "kill_user_processes": _kill_user_processes(),
        "linger": _linger(),
        "sessions": open_sessions(),
        "waiting": [run.run_id for run in run_processes.waiting(arguments["workdir"])],
        "workdir_problem": private_dirs.problem(workdir, workdir),
        "writable": os.access(_existing(home_path(arguments["workdir"])), os.W_OK),
        "noexec": bool(os.statvfs(_existing(workdir)).f_flag & os.ST_NOEXEC),
        "cpu_limit_s": _cpu_limit_s(),
        "n_free_inodes": _free_inodes(_existing(home_path(arguments["workdir"]))),
        **fast_facts(arguments["workdir"]),
        **gpu_state.observe_gpus(),
    }


def fast_facts(workdir: str) -> dict[str, Any]:
    """Return the values that change often and are cheap to read."""
    memory = _memory_gib()
    return {
        "hostname": socket.gethostname(),
        "n_cpus": os.cpu_count() or 0,
        "load_1m": os.getloadavg()[0],
        "ram_total_gib": memory.get("MemTotal", 0.0),
        "ram_available_gib": memory.get("MemAvailable", 0.0),
        "disk_free_gib": shutil.disk_usage(_existing(home_path(workdir))).free / _GIB,
    }


def this_boot() -> str:
    """Return the id of this machine's current boot, or an empty string if the system has none."""
    try:
        return boot_id()
    except OSError:
        return ""


def open_sessions() -> list[str]:
    """List the names of giblet's open sessions."""
    return sorted(name for name in sessions.open_names() if name.startswith(layout.SESSION_PREFIX))


class BackgroundFacts:
    """GPUs and sessions, refreshed in a thread because nvidia-smi may take seconds."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._latest: dict[str, Any] = {}
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def latest(self) -> dict[str, Any]:
        """Return the newest result; empty before the first query has ended."""
        return self._latest

    def _keep_looking(self) -> None:
        while True:
            self._latest = slow_facts()
            time.sleep(self._interval_s)


def slow_facts() -> dict[str, Any]:
    """Return the GPUs with the owners of their processes, and the open sessions."""
    return {**gpu_state.observe_gpus(), "sessions": open_sessions()}


def _memory_gib() -> dict[str, float]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":") for line in lines if ":" in line)
    return {name: float(value.split()[0]) * 1024 / _GIB for name, value in pairs}


def _cpu_limit_s() -> float | None:
    """Return after how much CPU time the system ends a process of this user, in seconds; None: never."""
    limit_s = resource.getrlimit(resource.RLIMIT_CPU)[0]
    return None if limit_s == resource.RLIM_INFINITY else float(limit_s)


def _free_inodes(path: str) -> int | None:
    """Return how many more files this user can create there; None where the file system sets no limit."""
    status = os.statvfs(path)
    return status.f_favail if status.f_files else None


def _existing(path: str) -> str:
    """Return the path, or its nearest parent that exists."""
    folder = Path(path)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return str(folder)


def _linger() -> bool | None:
    """Return True if this user's processes outlive the last logout; None without systemd-logind."""
    answer_text = _ask(["loginctl", "show-user", str(os.getuid()), "-p", "Linger"])
    return None if answer_text is None else answer_text.strip() == "Linger=yes"


def _kill_user_processes() -> bool | None:
    """Return True if logging out ends what was started; None without systemd-logind."""
    login = "org.freedesktop.login1"
    argv = ["busctl", "get-property", login, "/org/freedesktop/login1", login + ".Manager", "KillUserProcesses"]
    answer_text = _ask(argv)
    return None if answer_text is None else answer_text.strip() == "b true"


def _ask(argv: list[str]) -> str | None:
    result = answer(argv, _ASK_LIMIT_S)
    return result.stdout if result and result.returncode == 0 else None


OPERATIONS: dict[str, Operation] = {"probe": probe}
