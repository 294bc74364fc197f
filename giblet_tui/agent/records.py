"""Reads and writes the small JSON files of a run directory. Reading never blocks: only regular files are opened.

Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

MAX_RECORD_BYTES = 512 * 1024


def open_regular(path: str) -> int:
    """Open a regular file for reading and return its descriptor.

    Raises OSError for anything else: a FIFO, socket or device would block its reader or never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return descriptor


def read_bytes(path: str, limit: int = MAX_RECORD_BYTES) -> bytes | None:
    """Return the first `limit` bytes of a regular file, or None if it cannot be read."""
    try:
        with open(open_regular(path), "rb") as file:
            return file.read(limit)
    except OSError:
        return None


def read_record(path: str) -> dict[str, Any]:
    """Return the object in a JSON file; empty if the file is missing, unreadable or holds something else."""
    try:
        value = json.loads((read_bytes(path) or b"").decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_record(path: str, value: dict[str, Any], exclusive: bool = False) -> None:
    """Write a JSON file, whole and synced, that nobody else can change; the umask may hide it from the group.

    Args:
        exclusive: raise FileExistsError if the file exists already.
    """
    aside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w") as file:
            json.dump(value, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(aside, path)
        else:
            os.replace(aside, path)
    finally:
        if os.path.lexists(aside):
            os.unlink(aside)
