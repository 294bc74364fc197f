"""The full-screen monitor: draws frozen snapshots of nodes and runs, and never touches a network itself.

`run_dashboard` is the one way in. What the dashboard needs from outside is declared in `ports`; Textual is imported
only once it opens.
"""

from __future__ import annotations

import gc
import os

from giblet_tui.dashboard.model.interfaces import DashboardActions, SnapshotSource
from giblet_tui.monitor.snapshots import Fleet

THREADS = "OPENBLAS_NUM_THREADS"

__all__ = ["DashboardActions", "SnapshotSource", "run_dashboard"]


def load_numpy() -> None:
    """Import numpy with one thread for its matrix products: charts need no more, and a pool of them delays a start.

    The variable is put back, for runs that are launched from here inherit the environment.
    """
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        import numpy  # noqa: F401 (only its side effect is wanted here)
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def run_dashboard(source: SnapshotSource, actions: DashboardActions, initial: Fleet, readonly: bool = False) -> int:
    """Open the dashboard and return an exit code once the user leaves it; no run is touched by leaving.

    source: posts node snapshots from threads of its own until closed. actions: what keys may cause. initial: what is
    already known (the cache), on screen before the first snapshot arrives. readonly: no key changes anything.
    """
    gc.disable()  # nothing that starting makes is garbage; the app collects again from its first screen on
    load_numpy()
    from giblet_tui.dashboard.app import DashboardApp

    for exported in ("COLUMNS", "LINES"):
        os.environ.pop(exported, None)  # the size at the shell's start would hide every later resize
    app = DashboardApp(source, actions, initial, readonly=readonly)
    app.run()
    return app.return_code or 0
