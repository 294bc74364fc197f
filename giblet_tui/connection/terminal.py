"""Joins this terminal to a command on a node, as `ssh -t` does."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Protocol

ATTACH_COMMAND = 'exec /bin/sh -c \'eval "$(printf "$0")"\' '
"""Followed by a quoted script in octal escapes: no login shell expands anything in that."""

_FALLBACK_TERM = (
    'if command -v tput >/dev/null && ! tput -T "$TERM" longname >/dev/null 2>&1; then TERM=xterm-256color; fi; '
)
"""A node may not know the terminal in front of the user (xterm-ghostty, xterm-kitty)."""


class Screen(Protocol):
    """The other end: a channel with a terminal."""

    def fileno(self) -> int: ...
    def recv(self, nbytes: int) -> bytes: ...
    def sendall(self, s: bytes) -> object: ...
    def resize_pty(self, width: int, height: int) -> object: ...


def encoded(argv: list[str]) -> str:
    """Encode the words of a command for `ATTACH_COMMAND`."""
    script = f"{_FALLBACK_TERM}export TERM; exec {shlex.join(argv)}"
    return "'" + "".join(f"\\{byte:03o}" for byte in script.encode("utf-8")) + "'"


def size() -> tuple[int, int]:
    """Return columns and rows of this terminal itself; the environment may be wrong."""
    try:
        terminal_size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return 80, 24
    return terminal_size.columns, terminal_size.lines


def join_terminal(screen: Screen) -> None:
    """Pass keys and output between both ends until the command ends, then restore this terminal."""
    with _raw(), _following_size(screen):
        sources = [screen.fileno(), sys.stdin.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if sources[0] in ready:
                data = screen.recv(64 * 1024)
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            if sys.stdin.fileno() in ready:
                keys = os.read(sys.stdin.fileno(), 4096)
                if keys:
                    screen.sendall(keys)
                else:
                    del sources[1]


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(screen: Screen) -> Iterator[None]:
    before = signal.signal(signal.SIGWINCH, lambda *_: screen.resize_pty(*size()))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
