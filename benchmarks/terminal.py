"""A program in a terminal of its own: what it draws and when, and what its processes cost."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence

from tests.cluster.nodes import processes

ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78MDEHcPX^_\\])")
TICK_S = os.sysconf("SC_CLK_TCK")


class Terminal:
    """A pseudo-terminal of so many cells with one program in it; its output is kept with the moment it came."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], columns: int = 120, rows: int = 40) -> None:
        self.began = time.monotonic()
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(argv[0], list(argv), {**environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"})
        self.chunks: list[tuple[float, bytes]] = []
        self._over = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def press(self, keys: str) -> None:
        """Send keys, as if they were typed."""
        os.write(self._master, keys.encode())

    def since(self, moment: float) -> list[tuple[float, bytes]]:
        """Return what came from that moment on."""
        return [chunk for chunk in list(self.chunks) if chunk[0] >= moment]

    def wait(self, text: str, since: float, limit_s: float = 30.0) -> float:
        """Return the seconds from `since` until the text was drawn; infinite if it was not within the limit."""
        pattern, deadline = text.encode(), time.monotonic() + limit_s
        while time.monotonic() < deadline:
            output = b""
            for at, data in self.since(since):
                output += data
                if pattern in ESCAPE.sub(b"", output):
                    return at - since
            time.sleep(0.005)
        return float("inf")

    def cpu_s(self) -> float:
        """Return the CPU seconds of the program and all that it started, also of what has ended."""
        parents = {pid: parent for pid, parent, _ in processes()}
        ours = [pid for pid in parents if pid == self._pid or self._pid in _ancestors(pid, parents)]
        return sum(map(_spent, ours))

    def close(self) -> None:
        """End it."""
        self._over.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while not self._over.is_set():
                if select.select([self._master], [], [], 0.2)[0] and (data := os.read(self._master, 1 << 16)):
                    self.chunks.append((time.monotonic(), data))


def _ancestors(pid: int, parents: Mapping[int, int]) -> set[int]:
    ancestors: set[int] = set()
    while (pid := parents.get(pid, 0)) and pid not in ancestors:
        ancestors.add(pid)
    return ancestors


def _spent(pid: int) -> float:
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICK_S
    return 0.0
