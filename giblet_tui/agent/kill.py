"""Ends every process of a run, without grace, until two looks find none.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import signal
import time

from giblet_tui.agent.proc import send, start_ticks
from giblet_tui.agent.run_processes import LocalRun

KILL_LIMIT_S = 10.0
QUIET_S = 0.1
"""Time between the two looks that must both find nothing."""
FIRST_PAUSE_S = 0.02
"""A killed process is gone within milliseconds; each further pause for one that is not is twice as long."""
MAX_PAUSE_S = 0.5


def kill_tree(run: LocalRun, earlier: dict[int, int] | None = None) -> dict[int, int]:
    """KILL every process of a run until two looks find none. Returns pid and start time of what survives KILL_LIMIT_S.

    All are stopped first, so that none forks meanwhile.

    Args:
        earlier: processes seen as its own before, with their start times; those that still live are killed too.
    """
    deadline = time.monotonic() + KILL_LIMIT_S
    processes = dict(earlier or {})
    n_quiet, pause_s = 0, FIRST_PAUSE_S
    while True:
        alive = surviving(run, processes)
        processes.update(alive)
        n_quiet = 0 if alive else n_quiet + 1
        if n_quiet == 2 or (alive and time.monotonic() > deadline):
            return alive
        if not alive:
            time.sleep(QUIET_S)
            continue
        for pid in alive:
            send(pid, signal.SIGSTOP)
        processes.update(surviving(run, processes))
        for pid, ticks in processes.items():
            if start_ticks(pid) == ticks:
                send(pid, signal.SIGKILL)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def surviving(run: LocalRun, earlier: dict[int, int]) -> dict[int, int]:
    """Return pid and start time of a run's living processes: those found now, and those of `earlier` still alive."""
    alive = {pid: ticks for pid, ticks in earlier.items() if start_ticks(pid) == ticks}
    return {**run.processes(), **alive}
