"""A plain process as a session backend: the run is a daemon without a terminal. Needs no program.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.proc import start_ticks
from giblet_tui.agent.session_backend import SessionBackend, session_environment


class PlainProcess(SessionBackend):
    """Runs without a session."""

    kind = "process"
    phrase = "a plain process"
    has_terminal = False
    is_listed = False

    def program(self) -> str | None:
        return "/bin/sh"

    def start(self, session: str, command: list[str]) -> Callable[[], bool]:
        environment = session_environment()
        pid = daemonize(lambda: os.execve(command[0], command, environment))
        return lambda: start_ticks(pid) is not None

    def open_sessions(self) -> dict[str, str]:
        return {}

    def kill(self, address: str) -> None:
        """Kill nothing: the run's processes are found by their marks."""


def daemonize(work: Callable[[], object]) -> int:
    """Run `work` in a process without parent and terminal, in a session of its own. Returns its pid."""
    read_end, write_end = os.pipe()
    between = os.fork()
    if between:
        os.close(write_end)
        os.waitpid(between, 0)
        with open(read_end, "rb") as pipe:
            pid = pipe.read()
        if not pid:
            raise AgentRefusal("The node starts no further process for you.", "See `ulimit -u` there.", 5)
        return int(pid)
    try:
        os.setsid()
        child = os.fork()
        if child:
            os.write(write_end, str(child).encode())
        else:
            devnull = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(devnull, stream)
            os.closerange(3, 4096)
            work()
    finally:
        os._exit(127)
