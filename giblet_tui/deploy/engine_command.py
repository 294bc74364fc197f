"""The engine's own commands, run on the node where the data lie; what they print comes here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from giblet_train.schema.run_dir import replace_file
from giblet_tui.connection.base import Connection
from giblet_tui.deploy.install import environment
from giblet_tui.inventory.nodes import Node

LIMIT_S = 24 * 3600.0


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and the text that it printed; nothing of it is made harmless yet."""

    code: int
    printed: str


def run_engine_command(
    node: Node, connection: Connection, argv: Sequence[str], stdin: str, say: Callable[[str], None]
) -> CommandResult:
    """Run `python -m giblet_train ARGV` in the node's workdir, by the interpreter that its runs use.

    say: told each line that it says. Raises PreflightRefused where the node has not this version of giblet, and
    Unreachable; the command then ends too.
    """
    arguments = {
        "python": environment(node, connection).python,
        "workdir": node.workdir,
        "argv": list(argv),
        "stdin": stdin,
    }
    done = connection.call(
        "engine_command", arguments, timeout_s=LIMIT_S, on_event=lambda event: say(str(event.get("say", "")))
    )
    return CommandResult(int(done["code"]), str(done["printed"]))


def download(connection: Connection, remote: str, path: Path) -> None:
    """A file of the node at `path` here, whole or not at all. Raises OSError where it cannot be written."""
    data = b"".join(connection.get(remote))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)
