"""Makes a session reachable again after its socket was deleted from /tmp: its server recreates it on a signal.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import layout, run_processes, sessions
from giblet_tui.agent.main import AgentRefusal, Emit, Operation
from giblet_tui.agent.proc import send, stat_fields

ASKS = {"tmux": signal.SIGUSR1, "screen": signal.SIGCHLD}
"""Signal on which a multiplexer's server recreates its socket."""
LIMIT_S = 3.0


def restore_socket(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Make the session of a live run attachable. Returns {again}, true if its socket was missing.

    arguments: workdir; run_id. Raises AgentRefusal if the session's server is gone; the run continues without one.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    kind = run.record(layout.RUN).get("multiplexer")
    supervisor = run.supervisor()
    if run.adopted or kind not in ASKS or supervisor is None or sessions.find_session(run.session):
        return {"again": False}
    fields = stat_fields(supervisor)
    server = int(fields[1]) if fields else 0
    if _name(server).startswith(kind) and send(server, ASKS[kind]):
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if sessions.find_session(run.session):
                return {"again": True}
            time.sleep(0.05)
    raise AgentRefusal(
        f"The {kind} session of {run.run_id} is gone; the run continues.", f"giblet logs {run.run_id} -f", 1
    )


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().lower()
    except OSError:
        return ""


OPERATIONS: dict[str, Operation] = {"uncover": restore_socket}
