"""GNU screen as pure pairs: what to run, and what its output means.

screen matches a session by prefix, and allows two of one name. So a session is addressed as `PID.name`, read from the
list, and its name is compared whole, after the first dot.
"""

from __future__ import annotations

import re

PROGRAM = "screen"
_SESSION_LINE = re.compile(r"^\s+(?P<address>\d+\.(?P<name>\S+))\s.*\((?P<state>[^()]*)\)\s*$")


def start_argv(session: str, command: list[str]) -> list[str]:
    """Open a detached session that runs a command, without a shell between; it ends with the command."""
    return [PROGRAM, "-c", "/dev/null", "-fn", "-h", "5000", "-dmS", session, *command]


def list_argv() -> list[str]:
    """List every session of this user. The exit status says nothing that the output does not."""
    return [PROGRAM, "-ls"]


def parse_list(output: str) -> dict[str, str]:
    """Each living session's name and the address that means it and no other."""
    return dict(parse_addresses(output))


def parse_addresses(output: str) -> list[tuple[str, str]]:
    """(name, address) of each living session; several may have one name."""
    found = (_SESSION_LINE.match(line) for line in output.splitlines())
    return [(line["name"], line["address"]) for line in found if line and "dead" not in line["state"].lower()]


def end_argv(address: str) -> list[str]:
    """Close a session. What runs in it gets SIGHUP, and may live on."""
    return [PROGRAM, "-S", address, "-X", "quit"]


def attach_argv(address: str, write: bool = False) -> list[str]:
    """Show a session on this terminal, next to others that do. screen has no reading only: `write` changes nothing."""
    return [PROGRAM, "-x", address]
