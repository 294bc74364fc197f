"""The interface to whatever holds a run on a node: a session of tmux or screen, a Slurm job, or a plain process.

To add a kind, write one module with a class that implements `SessionBackend`, and add it to `sessions.BACKENDS`.
Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

from giblet_tui.agent import layout
from giblet_tui.agent.main import AgentRefusal
from giblet_tui.agent.run_command import answer

LIMIT_S = 10.0
NO_ANSWER = f"it cannot be run, or gives no answer within {LIMIT_S:.0f} s"
# A server remembers its first client's environment, which must not look like part of a run or of another session.
_NOT_INHERITED = (layout.MARK_VARIABLE, "TMUX", "TMUX_PANE", "STY", "WINDOW")


class UserSession(NamedTuple):
    """A session that a person opened by hand."""

    kind: str
    """Name of the backend."""
    name: str
    """Name that the user gave it."""
    address: str
    """What means this session and no other."""
    mark: str
    """`NAME=value` that all its processes have in their environment."""


class SessionBackend(Protocol):
    """One way to hold the session of a run."""

    kind: ClassVar[str]
    """Its name in run.json, nodes.yaml and on the command line."""
    phrase: ClassVar[str]
    """Its name in a sentence: `a tmux session`."""
    has_terminal: ClassVar[bool]
    """`attach` can show a session."""
    has_shell: ClassVar[bool] = False
    """Instead, `attach --write` opens a shell where the run is."""
    is_listed: ClassVar[bool] = True
    """`open_sessions` lists the session of a run as long as the run lives."""
    is_automatic: ClassVar[bool] = True
    """`auto` may choose it."""
    starts_later: ClassVar[bool] = False
    """A scheduler decides when and on which machine the run starts; until then it is pending."""
    restore_signal: ClassVar[int | None] = None
    """Signal on which its server recreates a deleted socket; None if it has none."""

    def program(self) -> str | None:
        """Return the path of its program, or None if it is not installed."""

    def problem(self) -> str:
        """Return why its program, though installed, can open no session here; empty if it can."""
        return ""

    def start(self, session: str, command: list[str]) -> Callable[[], bool]:
        """Start a command in a new session. Returns a function that tests if it is open. Raises AgentRefusal."""

    def open_sessions(self) -> dict[str, str]:
        """Map the name of each open session of giblet to its address."""

    def kill(self, address: str) -> None:
        """Close a session. Its processes get SIGHUP, and may survive."""

    def attach_argv(self, address: str, write: bool = False) -> list[str]:
        """Return the command that shows a session on this terminal; keys go to it only with `write`."""
        raise AgentRefusal(f"Such a run has no terminal: it is {self.phrase}.", "giblet logs RUN -f", 1)

    def processes(self, session: str) -> set[int]:
        """Return processes of a session that have no mark of the run; by default none."""
        return set()

    def user_sessions(self) -> list[UserSession]:
        """Return the sessions that the user opened by hand; by default none."""
        return []

    def kill_user_session(self, address: str) -> None:
        """Close a session of the user."""
        self.kill(address)

    def attach_user_argv(self, address: str, write: bool = False) -> list[str]:
        """Return the command that shows a session of the user on this terminal."""
        return self.attach_argv(address, write)


def start_server(kind: str, argv: list[str]) -> None:
    """Run a multiplexer's command that opens a session. Raises AgentRefusal with its own message."""
    result = answer(argv, LIMIT_S, session_environment())
    if result is None or result.returncode != 0:
        message = (result.stdout + result.stderr).strip() if result else NO_ANSWER
        reason = message or "no reason given"
        raise AgentRefusal(f"{kind} cannot open a session: {reason}.", "Try --session process.", 5)


def session_environment() -> dict[str, str]:
    """Return our environment without the variables that would mark a session as part of another one."""
    return {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}


def output_of(argv: list[str], outside: bool = False) -> str:
    """Return what a multiplexer prints; empty if it is not installed or does not answer.

    Args:
        outside: ask as if this process were in no session.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("TMUX", "STY")} if outside else None
    result = answer(argv, LIMIT_S, environment)
    return result.stdout if result else ""
