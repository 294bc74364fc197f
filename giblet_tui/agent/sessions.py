"""Sessions on this node: opened, listed and ended by whatever holds them: tmux, screen, or nothing but the process.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from giblet_tui.agent import layout, screen, tmux
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.proc import start_ticks
from giblet_tui.agent.run_command import answer

MULTIPLEXERS = {"tmux": tmux, "screen": screen}
_LIMIT_S = 10.0
# A server remembers the environment of whoever started it: it must not look like part of a run, or of another session.
_NOT_INHERITED = (layout.MARK_VARIABLE, "TMUX", "TMUX_PANE", "STY", "WINDOW")


def check_installed(kind: str) -> None:
    """Raises AgentRefusal when what is to hold the session is not installed. A plain process always is."""
    if kind != "process" and shutil.which(MULTIPLEXERS[kind].PROGRAM) is None:
        raise AgentRefusal(f"{kind} is not installed on this node.", "Use --session auto, or have it installed.", 5)


def check_name_free(session: str) -> None:
    """Raises AgentRefusal when a session of exactly that name is open."""
    for kind, _ in find_session(session):
        raise AgentRefusal(f"A {kind} session {session} is already open here.", "Launch again: the id is new.", 5)


def open_session(kind: str, session: str, command: list[str]) -> Callable[[], bool]:
    """Start a command in a new session; what says whether it is still open. Raises AgentRefusal in tmux's own words."""
    environment = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    if kind == "process":
        pid = daemonize(lambda: os.execve(command[0], command, environment))
        return lambda: start_ticks(pid) is not None
    done = answer(MULTIPLEXERS[kind].start_argv(session, command), _LIMIT_S, environment)
    if done is None or done.returncode != 0:
        said = (done.stdout + done.stderr).strip() if done else f"no answer within {_LIMIT_S:.0f} s"
        raise AgentRefusal(f"{kind} opens no session: {said or 'no reason given'}.", "Try --session process.", 5)
    return lambda: session in list_sessions(kind)


def list_sessions(kind: str) -> dict[str, str]:
    """Name and address of each open session of one multiplexer; none where it is not installed or does not answer."""
    done = answer(MULTIPLEXERS[kind].list_argv(), _LIMIT_S)
    return MULTIPLEXERS[kind].parse_list(done.stdout) if done else {}


def find_session(session: str) -> list[tuple[str, str]]:
    """(multiplexer, address) of every open session of exactly that name."""
    names = {kind: list_sessions(kind) for kind in MULTIPLEXERS}
    return [(kind, names[kind][session]) for kind in MULTIPLEXERS if session in names[kind]]


def kill_session(session: str) -> list[str]:
    """Close every session of exactly that name; the multiplexers that held one."""
    found = find_session(session)
    for kind, address in found:
        answer(MULTIPLEXERS[kind].end_argv(address), _LIMIT_S)
    return [kind for kind, _ in found]


def daemonize(work: Callable[[], object]) -> int:
    """Do work as nobody's child, without a terminal, in a session of its own; its pid. It ends with the work."""
    told, tell = os.pipe()
    between = os.fork()
    if between:
        os.close(tell)
        os.waitpid(between, 0)
        with open(told, "rb") as pipe:
            pid = pipe.read()
        if not pid:
            raise AgentRefusal("The node starts no further process for you.", "See `ulimit -u` there.", 5)
        return int(pid)
    try:
        os.setsid()
        child = os.fork()
        if child:
            os.write(tell, str(child).encode())
        else:
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            os.closerange(3, 4096)
            work()
    finally:
        os._exit(127)
