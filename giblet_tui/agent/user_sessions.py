"""Sessions that a person opened by hand, in tmux's default server or in screen: listed, recognised, closed exactly.

Every process started in such a session has its mark in its environment: screen sets STY to `PID.name`, tmux sets TMUX
to `socket,pid of the server,number`. The mark survives double forks and a parent's death; a process tree does not.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from giblet_tui.agent import layout
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.proc import stat_fields
from giblet_tui.agent.session_backend import UserSession
from giblet_tui.agent.sessions import BACKENDS

_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh", "screen", "tmux", "tmux: server"}


def list_sessions() -> list[UserSession]:
    """Return this user's sessions without giblet's own."""
    sessions = [session for backend in BACKENDS.values() for session in backend.user_sessions()]
    return [session for session in sessions if not session.name.startswith(layout.SESSION_PREFIX)]


def find(name: str) -> UserSession:
    """Return the session with that name or address (`4242.train`). Raises AgentRefusal listing all sessions."""
    if name.startswith(layout.SESSION_PREFIX):
        raise AgentRefusal(f"{name[:60]} is giblet's own session.", "`giblet ps -a` lists its run.", 2)
    sessions = list_sessions()
    matching = [session for session in sessions if name in (session.name, session.address)]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(f"{_unique_name(session)} ({session.kind})" for session in sessions)
    if matching:
        raise AgentRefusal(f"{len(matching)} sessions are called {name[:60]}.", f"Name one in full: {names}", 2)
    raise AgentRefusal(
        f"No screen or tmux session that you started there by hand is called {name[:60]!r}.",
        f"There are: {names}" if names else "There is none at all; giblet's own need no adopting: giblet ps",
        2,
    )


def close(record: dict[str, Any]) -> list[str]:
    """Close the session that an adopted run's record names, if it still exists. Returns its kind in a list."""
    for session in list_sessions():
        if session.mark == record.get("mark"):
            BACKENDS[session.kind].kill_user_session(session.address)
            return [session.kind]
    return []


def trainers(pids: set[int]) -> set[int]:
    """Return the processes of a session that work: all but shells, multiplexers and this process."""
    return {pid for pid in pids if pid != os.getpid() and _name(pid) not in _SHELLS}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().lower() if stat_fields(pid) else ""
    except OSError:
        return ""


def _unique_name(session: UserSession) -> str:
    """Return the address if it contains the name, else the name: tmux numbers its sessions."""
    return session.address if session.address.endswith(session.name) else session.name
