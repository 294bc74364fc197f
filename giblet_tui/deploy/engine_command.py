"""Runs engine commands on the node that has the data; their output comes back here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from giblet_train.schema.run_dir import replace_file
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import CommandOutput, progress_to
from giblet_tui.deploy.install import environment
from giblet_tui.inventory.nodes import Node

LIMIT_S = 24 * 3600.0


def run_engine_command(
    node: Node, connection: Connection, argv: Sequence[str], stdin: str, report: Callable[[str], None]
) -> CommandOutput:
    """Run `python -m giblet_train ARGV` in the node's workdir, with the interpreter that its runs use.

    Raises PreflightRefused if the node lacks this version of giblet, and Unreachable; the command then ends too.

    Args:
        report: receives each line of its standard error.
    """
    arguments = {
        "python": environment(node, connection).python,
        "workdir": node.workdir,
        "argv": list(argv),
        "stdin": stdin,
    }
    return connection.call("engine_command", arguments, CommandOutput, timeout_s=LIMIT_S, on_event=progress_to(report))


def download(connection: Connection, remote: str, path: Path) -> None:
    """Copy a file of the node to `path` here, whole or not at all. Raises OSError if it cannot be written."""
    data = b"".join(connection.get(remote))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)
