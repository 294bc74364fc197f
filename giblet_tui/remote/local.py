"""This machine as a node: the same agent, run as a child process instead of over a network."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile

from giblet_tui.errors import Unreachable
from giblet_tui.nodes import Node
from giblet_tui.remote.agentlink import AgentLink
from giblet_tui.remote.dialogue import Pipe
from giblet_tui.remote.program import AGENT_COMMAND

_END_WITHIN_S = 2.0


class LocalConnection(AgentLink):
    """Runs the agent with this very interpreter, unless the node names another."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._interpreter = node.python or sys.executable

    def interactive(self, argv: list[str]) -> int:
        try:
            return subprocess.run(argv, check=False).returncode
        except OSError as error:
            raise Unreachable(f"{argv[0]} cannot be run here: {error.strerror}.") from None

    def close(self) -> None:
        """Nothing is held open between verbs."""

    def _open(self) -> Pipe:
        return _ProcessPipe()

    def _check_link(self) -> None:
        """A pipe to a child cannot go silent without closing."""


class _ProcessPipe:
    def __init__(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", AGENT_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._out, selectors.EVENT_READ)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._in.fileno(), view) :]
        except OSError:
            pass  # the process is gone; reading says how it ended

    def read(self, timeout_s: float) -> bytes | None:
        if not self._ready.select(timeout_s):
            return None
        return os.read(self._out.fileno(), 256 * 1024)

    def close(self) -> None:
        if self._in.closed:
            return
        self._in.close()
        self._ready.close()
        self._out.close()
        self._stderr.close()
        try:
            self._process.wait(0 if self._process.poll() is not None else _END_WITHIN_S)
        except subprocess.TimeoutExpired:
            # An operation that finishes without its client (a stop) keeps running; it is reaped when this process ends.
            pass

    def await_end(self, limit_s: float) -> None:
        """A child is waited for in `close`."""

    def epitaph(self) -> str:
        try:
            code = self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            return ""
        self._stderr.seek(0)
        said = self._stderr.read(400).decode("utf-8", "replace").strip()
        return f"status {code}{said and f': {said}'}"
