"""processes.json: the processes of a run, recorded while it runs, so that a stop finds them without its supervisor.

The supervisor writes it and removes it when the run has ended. So a file that is left shows that the supervisor was
killed. Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from giblet_tui.agent import layout, run_cgroup
from giblet_tui.agent.proc import boot_id, start_ticks
from giblet_tui.agent.records import read_record, write_record

EVERY_S = 5.0
"""The supervisor updates the list at least this often."""


class ProcessList:
    """The supervisor's side: creates the run's control group and keeps the list of its processes."""

    def __init__(self, run_dir: str, mark: str) -> None:
        self._path = os.path.join(run_dir, layout.PROCESSES)
        self.cgroup = run_cgroup.create(mark)
        self._recorded: dict[str, int] = {}
        self._write({})

    def update(self, pids: Iterable[int]) -> None:
        """Record the living ones of these processes if they changed."""
        ticks = {str(pid): start_ticks(pid) for pid in pids}
        processes = {pid: start for pid, start in ticks.items() if start is not None}
        if processes != self._recorded:
            self._write(processes)

    def remove(self) -> None:
        """Remove the file and the control group after the end of the run."""
        run_cgroup.remove(self.cgroup)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _write(self, processes: dict[str, int]) -> None:
        with contextlib.suppress(OSError):  # a full disk: the list stays as it was
            write_record(self._path, {"boot_id": boot_id(), "cgroup": self.cgroup, "processes": processes})
            self._recorded = processes


def recorded(run_dir: str) -> set[int]:
    """Return the living processes of a run by its list and its control group; none without a list of this boot."""
    record = read_record(os.path.join(run_dir, layout.PROCESSES))
    if record.get("boot_id") != boot_id():
        return set()
    processes = record.get("processes")
    entries = processes.items() if isinstance(processes, dict) else ()
    alive = {int(pid) for pid, ticks in entries if pid.isdigit() and start_ticks(int(pid)) == ticks}
    cgroup = str(record.get("cgroup") or "")
    return alive | (run_cgroup.members(cgroup) if run_cgroup.is_group(cgroup) else set())


def is_left(run_dir: str) -> bool:
    """Return True if the list was never removed: the supervisor lives or was killed."""
    return os.path.exists(os.path.join(run_dir, layout.PROCESSES))


def has_cgroup(run_dir: str) -> bool:
    """Return True if a control group holds all processes of the run."""
    return run_cgroup.is_group(str(read_record(os.path.join(run_dir, layout.PROCESSES)).get("cgroup") or ""))
