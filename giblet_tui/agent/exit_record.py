"""How a run ended: exit code or signal, kills by the kernel for lack of memory, and exit.json.

Part of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import glob
import os
import time

from giblet_tui.agent import layout
from giblet_tui.agent.records import read_record, write_record

FULL_DISK_LIMIT_S = 300.0


class ExitRecorder:
    """Collects what exit.json needs, from before the start of a run until after its end."""

    def __init__(self, run_dir: str, run_id: str) -> None:
        self._run_dir = run_dir
        self._run_id = run_id
        self._oom_kills_before = oom_kills()

    def has_failed(self) -> bool:
        """Return True if the run has failed already. Its other processes may need a minute to end."""
        state = read_record(os.path.join(self._run_dir, layout.HEARTBEAT)).get("state")
        reports = glob.glob(
            glob.escape(os.path.join(self._run_dir, layout.RANKS)) + "/**/attempt_*/*/error.json", recursive=True
        )
        has_cause = os.path.exists(os.path.join(self._run_dir, layout.CAUSE))
        return state == "failed" or bool(reports) or has_cause or oom_kills() > self._oom_kills_before

    def write(
        self,
        code: int | None,
        by_signal: int | None,
        killed_pids: set[int],
        survivors: set[int],
        interrupted: bool,
        by_itself: bool,
    ) -> None:
        """Write exit.json; on a full disk, wait for room. Raises OSError if there is none for FULL_DISK_LIMIT_S.

        Args:
            interrupted: the supervisor received SIGINT.
            by_itself: the command ended, or had failed, before it was asked to end.
        """
        record = {
            "run_id": self._run_id,
            "ended_at": time.time(),
            "code": code,
            "signal": by_signal,
            "killed": sorted(killed_pids),
            "survivors": sorted(survivors),
            # TERM alone may come from a shutdown; `giblet stop` creates its file first.
            "stop_requested": interrupted or os.path.exists(os.path.join(self._run_dir, layout.STOP)),
            "oom_kills": oom_kills() - self._oom_kills_before,
            "by_itself": by_itself,
        }
        deadline = time.monotonic() + FULL_DISK_LIMIT_S
        while True:
            try:
                return write_record(os.path.join(self._run_dir, layout.EXIT), record)
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(1.0)


def oom_kills() -> int:
    """Return how many processes of this control group the kernel killed for lack of memory; 0 if unknown."""
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


def split_status(status: int | None) -> tuple[int | None, int | None]:
    """Split a wait status into (exit code, signal). One of them is None; both are if the process was never reaped."""
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
