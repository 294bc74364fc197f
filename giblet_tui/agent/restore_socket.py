"""Makes a session reachable again after its socket was deleted from /tmp: its server recreates it on a signal.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from giblet_tui.agent import layout, run_processes, sessions
from giblet_tui.agent.main import AgentRefusal, Emit, Operation
from giblet_tui.agent.proc import send, stat_fields
from giblet_tui.agent.session_backend import SessionBackend

LIMIT_S = 10.0
"""A busy server answers its signal late."""
ASK_EVERY_S = 1.0


def restore_socket(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Make the session of a live run attachable. Returns {again, argv}.

    again: its socket was missing. argv: the command that shows the session on a terminal.

    arguments: workdir; run_id; write, whether keys go to the run. Raises AgentRefusal if the run has no terminal, or if
    the session's server is gone; the run continues without one.
    """
    run = run_processes.find(arguments["workdir"], arguments["run_id"])
    backend = sessions.backend_of(str(run.record(layout.RUN).get("multiplexer")))
    write = bool(arguments.get("write"))
    if run.adopted:
        return {"again": False, "argv": backend.attach_user_argv(str(run.adopted["address"]), write)}
    address = backend.open_sessions().get(run.session)
    if address is not None or not backend.has_terminal:
        return {"again": False, "argv": backend.attach_argv(address or "", write)}
    deadline = time.monotonic() + LIMIT_S
    ask_at = 0.0
    while time.monotonic() < deadline:
        if time.monotonic() >= ask_at:
            ask_at = time.monotonic() + ASK_EVERY_S
            if not _ask_server(run, backend):
                break
        address = backend.open_sessions().get(run.session)
        if address is not None:
            return {"again": True, "argv": backend.attach_argv(address, write)}
        time.sleep(0.05)
    raise AgentRefusal(
        f"The {backend.kind} session of {run.run_id} is gone; the run continues.", f"giblet logs {run.run_id} -f", 1
    )


def _ask_server(run: run_processes.LocalRun, backend: SessionBackend) -> bool:
    """Ask the session's server, the parent of the supervisor, to recreate its socket."""
    supervisor = run.supervisor()
    fields = stat_fields(supervisor) if supervisor is not None else None
    server = int(fields[1]) if fields else 0
    number = backend.restore_signal
    return number is not None and _name(server).startswith(backend.kind) and send(server, number)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().lower()
    except OSError:
        return ""


OPERATIONS: dict[str, Operation] = {"uncover": restore_socket}
