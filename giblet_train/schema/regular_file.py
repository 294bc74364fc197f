"""Open files that are read to their end: a pipe without a writer would block for ever, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def without_waiting(path: str, flags: int) -> int:
    """Open a file without waiting for a writer; the `opener` of `open`. Raises OSError for a named pipe and a socket.

    The kind is asked for after opening, so that nothing can take the file's place in between. A pipe that the shell has
    opened (`<(command)`, /dev/stdin) has no name in a folder, and ends when its writer does. A device may have no end:
    who opens one reads a limited part.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISCHR(kind):  # `open` itself refuses a folder
        return descriptor
    if stat.S_ISFIFO(kind) and not Path(os.path.realpath(path)).exists():
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "a named pipe or socket, not a file", path)


def read_regular(path: Path) -> bytes:
    """Return the content of a file. Raises OSError, also for a device."""
    with open(path, "rb", opener=without_waiting) as file:
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "a device, not a file", str(path))
        return file.read()
