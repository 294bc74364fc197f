"""GNU screen as a session backend: command lines, and what their output means.

screen matches a session by prefix, and allows two of one name. So a session is addressed as `PID.name`, read from the
list, and its name is compared whole, after the first dot.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

from giblet_tui.agent.run_command import answer
from giblet_tui.agent.session_backend import LIMIT_S, NO_ANSWER, SessionBackend, UserSession, output_of, start_server

PROGRAM = "screen"
# A command that ends at once is never listed, so the wait has an end.
_APPEARS_LIMIT_S = 2.0
_COUNTS_SOCKETS = re.compile(r"\bSockets? (found )?in |^There (is|are) ", re.MULTILINE)
_SESSION_LINE = re.compile(r"^\s+(?P<address>\d+\.(?P<name>\S+))\s.*\((?P<state>[^()]*)\)\s*$")


class Screen(SessionBackend):
    """Sessions of GNU screen."""

    kind = "screen"
    phrase = "a screen session"
    has_terminal = True
    restore_signal = int(signal.SIGCHLD)

    def program(self) -> str | None:
        return shutil.which(PROGRAM)

    def problem(self) -> str:
        return parse_problem(answer(list_argv(), LIMIT_S))

    def start(self, session: str, command: list[str]) -> Callable[[], bool]:
        """Start a command in a new session, and wait until screen lists it.

        `screen -dm` returns before its server has opened the socket: without the wait, a session that is being opened
        is taken for one that has ended.
        """
        start_server(self.kind, start_argv(session, command))
        deadline = time.monotonic() + _APPEARS_LIMIT_S
        while session not in self.open_sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
        return lambda: session in self.open_sessions()

    def open_sessions(self) -> dict[str, str]:
        return parse_list(output_of(list_argv()))

    def kill(self, address: str) -> None:
        output_of(kill_argv(address))

    def attach_argv(self, address: str, write: bool = False) -> list[str]:
        """Return the command that shows a session next to other viewers; screen has no read-only mode."""
        return [PROGRAM, "-x", address]

    def user_sessions(self) -> list[UserSession]:
        """Return all sessions of the user; their processes have the address in STY."""
        addresses = parse_addresses(output_of(list_argv(), outside=True))
        return [UserSession(self.kind, name, address, f"STY={address}") for name, address in addresses]

    def kill_user_session(self, address: str) -> None:
        output_of(kill_argv(address), outside=True)


def start_argv(session: str, command: list[str]) -> list[str]:
    """Return the command that opens a detached session running a command without a shell; it ends with the command."""
    return [PROGRAM, "-c", "/dev/null", "-fn", "-h", "5000", "-dmS", session, *command]


def list_argv() -> list[str]:
    """Return the command that lists every session of this user. Its exit status adds nothing to its output."""
    return [PROGRAM, "-ls"]


def parse_problem(listing: subprocess.CompletedProcess[str] | None) -> str:
    """Return why screen cannot work at all, from its answer to `list_argv`, which counts sockets if it can."""
    if listing is None:
        return NO_ANSWER
    message = (listing.stdout + listing.stderr).strip()
    return "" if _COUNTS_SOCKETS.search(message) else message or f"it ended with code {listing.returncode}"


def parse_list(output: str) -> dict[str, str]:
    """Map each living session's name to its exact address."""
    return dict(parse_addresses(output))


def parse_addresses(output: str) -> list[tuple[str, str]]:
    """Return (name, address) of each living session; several may have one name."""
    matches = (_SESSION_LINE.match(line) for line in output.splitlines())
    return [(match["name"], match["address"]) for match in matches if match and "dead" not in match["state"].lower()]


def kill_argv(address: str) -> list[str]:
    """Return the command that closes a session."""
    return [PROGRAM, "-S", address, "-X", "quit"]
