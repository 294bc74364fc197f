"""The end of a program whose reader has left, as in `giblet ps | head -1`."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager


class ClosedPipe(Exception):
    """The reader of stdout or stderr has closed the pipe."""


@contextmanager
def closed_pipes_as_exception() -> Iterator[None]:
    """Turn a BrokenPipeError on our stdout or stderr into ClosedPipe; the command-line library would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        if not closed_pipes():
            raise
        raise ClosedPipe from None


def closed_pipes() -> list[int]:
    """Return which of stdout (1) and stderr (2) are pipes that nobody reads."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return [stream for stream, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]
