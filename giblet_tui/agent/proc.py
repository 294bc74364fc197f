"""Reads /proc: which processes live, who they are, and what descends from them. Linux only.

Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterable


def boot_id() -> str:
    """Return the id of this machine's current boot."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def user_name(uid: int) -> str:
    """Return the login name of a user id, or the number: a container, or a directory service that is down, has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the third, the state, on. None if the process is gone or a zombie.

    A process whose first thread alone has ended looks like a zombie there and still lives. That is the state of a
    killed process of which another thread hangs in a driver, with its GPU memory.
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
    """Return a process's start time in clock ticks since boot, or None if it is gone.

    Pid, start time and boot together identify a process.
    """
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def is_paused(pid: int) -> bool:
    """Return True if the process was stopped by a signal."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] == "T"


def command_line(pid: int) -> list[str]:
    """Return the words of a process's command line; empty if it is gone, or hidden from this user."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def owner(pid: int) -> int | None:
    """Return the user id of a process, or None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def age_s(pid: int) -> float | None:
    """Return for how long a process has run, in seconds; None if it is gone."""
    ticks = start_ticks(pid)
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return None if ticks is None else now_s - ticks / os.sysconf("SC_CLK_TCK")


def hangs_in_kernel(pid: int) -> bool:
    """Return True if the process waits for the kernel at this moment and cannot be interrupted (state D)."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] == "D"


def descendants(roots: Iterable[int], but_below: int | None = None) -> set[int]:
    """Return every living process below the roots, without the process `but_below` and its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(int(name)) if name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(name))
    below: set[int] = set()
    parents = list(roots)
    while parents:
        next_level = [pid for pid in children.get(parents.pop(), ()) if pid != but_below and pid not in below]
        below.update(next_level)
        parents += next_level
    return below


def send(pid: int, number: int) -> bool:
    """Signal a process. Returns False if it is gone or belongs to another user."""
    try:
        os.kill(pid, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False
