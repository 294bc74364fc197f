"""tmux as a session backend: command lines, and what their output means.

giblet's sessions live on a server of their own (`-L giblet`, no configuration file), apart from the user's. A session
is addressed as `=name`: without the `=`, tmux accepts a prefix, and would end run10 for run1. tmux expands a session's
name as a format (`#(command)` runs), so only names made by `layout.session_name` may come here.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable

from giblet_tui.agent.run_command import answer
from giblet_tui.agent.session_backend import LIMIT_S, NO_ANSWER, SessionBackend, UserSession, output_of, start_server

PROGRAM = "tmux"
_TMUX = [PROGRAM, "-L", "giblet", "-f", "/dev/null"]
_NO_SERVER = re.compile(
    r"no server running|lost server|server exited|failed to connect to server"
    r"|error connecting to .*\((No such|.*refused)"
)
"""No server, or one that ends at this moment because its last session has."""
_SIZE = ["-x", "160", "-y", "48"]


class Tmux(SessionBackend):
    """Sessions of tmux."""

    kind = "tmux"
    phrase = "a tmux session"
    has_terminal = True
    restore_signal = int(signal.SIGUSR1)

    def program(self) -> str | None:
        return shutil.which(PROGRAM)

    def problem(self) -> str:
        return parse_problem(answer(list_argv(), LIMIT_S))

    def start(self, session: str, command: list[str]) -> Callable[[], bool]:
        start_server(self.kind, start_argv(session, command))
        return lambda: session in self.open_sessions()

    def open_sessions(self) -> dict[str, str]:
        return parse_list(output_of(list_argv()))

    def kill(self, address: str) -> None:
        output_of(kill_argv(address))

    def attach_argv(self, address: str, write: bool = False) -> list[str]:
        return [*_TMUX, "attach-session", *([] if write else ["-r"]), "-t", address]

    def user_sessions(self) -> list[UserSession]:
        """Return the sessions of the user's default server; their processes have its socket in TMUX."""
        sessions = parse_user_sessions(output_of(list_user_sessions_argv(), outside=True))
        return [UserSession(self.kind, name, address, f"TMUX={variable}") for name, address, variable in sessions]

    def kill_user_session(self, address: str) -> None:
        output_of([PROGRAM, "kill-session", "-t", address], outside=True)

    def attach_user_argv(self, address: str, write: bool = False) -> list[str]:
        return [PROGRAM, "attach-session", *([] if write else ["-r"]), "-t", address]


def start_argv(session: str, command: list[str]) -> list[str]:
    """Return the command that opens a detached session running a command without a shell; it ends with the command."""
    return [*_TMUX, "new-session", "-d", *_SIZE, "-s", session, "--", *command]


def list_argv() -> list[str]:
    """Return the command that lists every session of giblet's server. Its exit status is 1 without a server."""
    return [*_TMUX, "list-sessions", "-F", "#{session_name}"]


def parse_problem(listing: subprocess.CompletedProcess[str] | None) -> str:
    """Return why tmux cannot work at all, from its answer to `list_argv`; a server that does not run yet is none."""
    if listing is None:
        return NO_ANSWER
    message = listing.stderr.strip()
    is_usable = listing.returncode == 0 or _NO_SERVER.search(message)
    return "" if is_usable else message or f"it ended with code {listing.returncode}"


def parse_list(output: str) -> dict[str, str]:
    """Map each session's name to its exact address."""
    return {name: f"={name}" for name in output.splitlines() if name}


def kill_argv(address: str) -> list[str]:
    """Return the command that closes a session."""
    return [*_TMUX, "kill-session", "-t", address]


def list_user_sessions_argv() -> list[str]:
    """Return the command that lists the sessions of the user's default server."""
    return [PROGRAM, "list-sessions", "-F", "#{session_id} #{pid} #{socket_path} #{session_name}"]


def parse_user_sessions(output: str) -> list[tuple[str, str, str]]:
    """Return (name, address, value of TMUX in its processes) of each session. The address is its number (`$3`)."""
    rows = (line.split(" ", 3) for line in output.splitlines() if line.count(" ") >= 3)
    return [(name, number, f"{socket},{pid},{number.lstrip('$')}") for number, pid, socket, name in rows]
