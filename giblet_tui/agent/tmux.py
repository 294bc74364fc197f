"""tmux as pure pairs: what to run, and what its output means.

giblet's sessions live on a server of their own (`-L giblet`, no configuration file), apart from the user's. A session
is addressed as `=name`: without the `=`, tmux takes a prefix, and would end run10 for run1. tmux expands a session's
name as a format (`#(command)` runs), so only names that `rundir.session_name` made may come here.
"""

from __future__ import annotations

PROGRAM = "tmux"
_TMUX = [PROGRAM, "-L", "giblet", "-f", "/dev/null"]
_SIZE = ["-x", "160", "-y", "48"]


def start_argv(session: str, command: list[str]) -> list[str]:
    """Open a detached session that runs a command, without a shell between; it ends with the command."""
    return [*_TMUX, "new-session", "-d", *_SIZE, "-s", session, "--", *command]


def list_argv() -> list[str]:
    """Name every session of giblet's server. Exit status 1 when there is no server."""
    return [*_TMUX, "list-sessions", "-F", "#{session_name}"]


def parse_list(output: str) -> dict[str, str]:
    """Each session's name and the address that means it and no other."""
    return {name: f"={name}" for name in output.splitlines() if name}


def end_argv(address: str) -> list[str]:
    """Close a session. What runs in it gets SIGHUP, and may live on."""
    return [*_TMUX, "kill-session", "-t", address]


def attach_argv(address: str, write: bool = False) -> list[str]:
    """Show a session on this terminal; keys go to it only with `write`."""
    return [*_TMUX, "attach-session", *([] if write else ["-r"]), "-t", address]


def list_by_hand_argv() -> list[str]:
    """Name the sessions of the user's own default server: what was opened by hand."""
    return [PROGRAM, "list-sessions", "-F", "#{session_id} #{pid} #{socket_path} #{session_name}"]


def parse_by_hand(output: str) -> list[tuple[str, str, str]]:
    """(name, address, what TMUX is in the environment of its processes) of each session."""
    found = (line.split(" ", 3) for line in output.splitlines() if line.count(" ") >= 3)
    return [(name, number, f"{socket},{pid},{number.lstrip('$')}") for number, pid, socket, name in found]


def end_by_hand_argv(address: str) -> list[str]:
    """Close a session of the default server, named by its number (`$3`)."""
    return [PROGRAM, "kill-session", "-t", address]


def attach_by_hand_argv(address: str, write: bool = False) -> list[str]:
    """`attach_argv` for a session of the default server."""
    return [PROGRAM, "attach-session", *([] if write else ["-r"]), "-t", address]
