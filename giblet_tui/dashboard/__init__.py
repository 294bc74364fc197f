"""The full-screen monitor: draws frozen snapshots of nodes and runs, and never uses a network itself.

`run_dashboard` is the only entry. What the dashboard needs from outside is declared in `model.interfaces`; Textual is
imported only when the dashboard opens.
"""

from __future__ import annotations

import gc
import os

from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.model.interfaces import DashboardActions, SnapshotSource
from giblet_tui.monitor.snapshots import Fleet

THREADS = "OPENBLAS_NUM_THREADS"
DUMB_TERMINALS = ("", "dumb", "unknown")

__all__ = ["DashboardActions", "SnapshotSource", "run_dashboard"]


def load_numpy() -> None:
    """Import numpy with one thread for its matrix products: charts need no more, and a pool of them delays a start.

    The variable is restored, because runs that are launched from here inherit the environment.
    """
    before = os.environ.get(THREADS)
    os.environ[THREADS] = "1"
    try:
        import numpy  # noqa: F401 (imported for its side effect)
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def require_capable_terminal() -> None:
    """Raise ConfigError if the terminal cannot place text on the screen."""
    terminal = os.environ.get("TERM", "")
    if terminal in DUMB_TERMINALS:
        setting = f"TERM={terminal}" if terminal else "TERM is not set"
        raise ConfigError(
            f"The dashboard cannot draw on this terminal ({setting}).",
            "Set TERM, for example to xterm-256color; or use giblet ps, giblet status RUN --watch, giblet logs RUN -f",
        )


def run_dashboard(source: SnapshotSource, actions: DashboardActions, initial: Fleet, readonly: bool = False) -> int:
    """Open the dashboard and return an exit code once the user leaves it; leaving touches no run.

    Args:
        source: Posts node snapshots from threads of its own until closed.
        actions: What keys may cause.
        initial: What is known already (the cache), on screen before the first snapshot arrives.
        readonly: Whether every key that changes something is refused.

    Raises ConfigError if the terminal is not capable, or if the user's settings are wrong.
    """
    require_capable_terminal()
    gc.disable()  # the start makes no garbage; the app enables collection after its first screen
    load_numpy()
    from giblet_tui.dashboard.app import DashboardApp
    from giblet_tui.dashboard.palette import binding_ids
    from giblet_tui.dashboard.settings import check_keys, read_settings, settings_path
    from giblet_tui.dashboard.style.plain_glyphs import needs_plain_glyphs

    settings = read_settings(settings_path())
    check_keys(settings, binding_ids())
    for variable in ("COLUMNS", "LINES"):
        os.environ.pop(variable, None)  # the size at the shell's start would hide every later resize
    plain = needs_plain_glyphs()
    app = DashboardApp(source, actions, initial, readonly=readonly, settings=settings, plain=plain)
    app.run()
    return app.return_code or 0
