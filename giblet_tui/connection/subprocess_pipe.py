"""A command on a node as a child process of this machine: run directly, or through the system's `ssh`."""

from __future__ import annotations

import os
import selectors
import subprocess
import tempfile
from collections.abc import Callable, Sequence

from giblet_tui.errors import Unreachable

_END_WITHIN_S = 2.0
SSH_FAILED = 255
"""What `ssh` itself ends with when the link failed, as opposed to the command."""


class SubprocessPipe:
    """Standard input and output of a child. lost: creates the error to raise when the child, `ssh`, lost its link."""

    def __init__(self, argv: Sequence[str], loss_error: Callable[[], Unreachable] | None = None) -> None:
        self._lost = loss_error
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            argv,
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
        data = os.read(self._out.fileno(), 256 * 1024)
        if not data and self._lost is not None and self._code() == SSH_FAILED:
            raise self._lost()
        return data

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
        """Return at once: `close` waits for the child."""

    def exit_reason(self) -> str:
        code = self._code()
        if code is None:
            return ""
        self._stderr.seek(0)
        stderr_text = self._stderr.read(400).decode("utf-8", "replace").strip()
        return f"status {code}{stderr_text and f': {stderr_text}'}"

    def _code(self) -> int | None:
        try:
            return self._process.wait(_END_WITHIN_S)
        except subprocess.TimeoutExpired:
            return None
