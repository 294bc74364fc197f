"""This machine as a node: the same agent, run as a child process instead of over a network."""

from __future__ import annotations

import subprocess
import sys

from giblet_tui.connection.agent_bundle import AGENT_COMMAND
from giblet_tui.connection.agent_connection import AgentConnection
from giblet_tui.connection.agent_protocol import Pipe
from giblet_tui.connection.subprocess_pipe import SubprocessPipe
from giblet_tui.errors import Unreachable
from giblet_tui.inventory.nodes import Node


class LocalConnection(AgentConnection):
    """Runs the agent with this very interpreter, unless the node names another."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._interpreter = node.python or sys.executable

    @property
    def alive(self) -> bool:
        return True

    def interactive(self, argv: list[str]) -> int:
        try:
            return subprocess.run(argv, check=False).returncode
        except OSError as error:
            raise Unreachable(f"{argv[0]} cannot be run here: {error.strerror}.") from None

    def close(self) -> None:
        """Keep nothing to close: no resource is open between calls."""

    def _open(self) -> Pipe:
        return SubprocessPipe(["/bin/sh", "-c", AGENT_COMMAND])

    def _check_link(self) -> None:
        """Accept the link: a pipe to a child cannot go silent without closing."""
