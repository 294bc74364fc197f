"""A control group of a run's own, where the system allows one: no process of the run can leave it.

It is a group of cgroup v2 below the supervisor's own. Ordinary users may create one where systemd delegates theirs.
Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PREFIX = "giblet-"


def create(name: str) -> str:
    """Create the control group of a run (or of its mark) and return its path; empty if that is not possible."""
    try:
        path = os.path.join(_own_group(), _PREFIX + name)
        os.mkdir(path, 0o700)
    except OSError:
        return ""
    return path


def join(path: str) -> None:
    """Move this process into the group. Raises OSError."""
    with open(os.path.join(path, "cgroup.procs"), "w") as file:
        file.write("0")


def members(path: str) -> set[int]:
    """Return the processes in the group and in groups below it."""
    pids: set[int] = set()
    for folder, _, _ in os.walk(path):
        with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs")) as file:
            pids.update(int(line) for line in file)
    return pids - {0}


def remove(path: str) -> None:
    """Remove the group and those below it if they are empty."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def is_group(path: str) -> bool:
    """Return True if the path is an existing control group that giblet made."""
    return os.path.basename(path).startswith(_PREFIX) and os.path.isfile(os.path.join(path, "cgroup.procs"))


def _own_group() -> str:
    """Return the directory of this process's cgroup v2. Raises OSError if there is none."""
    with open("/proc/self/cgroup") as file:
        paths = [line.rstrip("\n").split(":", 2)[2] for line in file if line.startswith("0::")]
    for mount_point in _mount_points() if paths else ():
        return mount_point + paths[0].rstrip("/")
    raise OSError("no cgroup v2")


def _mount_points() -> Iterator[str]:
    with open("/proc/self/mounts") as file:
        for line in file:
            _, mount_point, kind, *_ = line.split()
            if kind == "cgroup2":
                yield mount_point
