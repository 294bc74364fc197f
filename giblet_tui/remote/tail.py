"""What was appended to a file since it was last read: whole lines, from an exact byte, each of them once.

A mark says how far a file was read and which file it was; it travels to the client and back, so a reader that begins
anew goes on where the last one stopped. (Its inode may be None: whichever file stands there.) A file that was replaced
or cut short is read from its start, and that is said.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

PIECE_BYTES = 1024 * 1024
"""Read at once; also the longest line: a longer one is left out, up to its end."""

_HEAD_BYTES = 64


def read_new(path: Path, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool) -> dict[str, Any] | None:
    """The next lines after `mark`: {text, mark, reset, skipped, more}; None when there is nothing new, or no file.

    last_bytes: without a mark, begin so far before the end, at a line. ended: nothing will be appended, so what stands
    there without a newline is a line too. reset: `text` begins a file anew. skipped: lines left out for their length.
    """
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read_new(descriptor, mark, last_bytes, ended)
    finally:
        os.close(descriptor)


def _read_new(
    descriptor: int, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool
) -> dict[str, Any] | None:
    status = os.fstat(descriptor)
    reset = mark is None or _is_another_file(descriptor, mark, status)
    if mark is None:
        offset = max(0, status.st_size - last_bytes) if last_bytes is not None else 0
        skipping = offset > 0
    else:
        offset, skipping = (0, False) if reset else (mark["offset"], mark["skipping"])
    data = os.pread(descriptor, PIECE_BYTES, offset)
    text, skipping, length, skipped = _whole_lines(data, skipping, ended)
    offset += length
    if not length and not reset:
        return None
    return {
        "text": text.decode("utf-8", "surrogateescape"),
        "mark": {"offset": offset, "inode": status.st_ino, "head": _head(descriptor, offset), "skipping": skipping},
        "reset": reset,
        "skipped": skipped,
        "more": offset < status.st_size and len(data) == PIECE_BYTES,
    }


def _whole_lines(data: bytes, skipping: bool, ended: bool) -> tuple[bytes, bool, int, int]:
    """(lines, still inside a line that is too long, bytes used, lines found too long)."""
    start = 0
    if skipping:
        start = data.find(b"\n") + 1
        if not start:
            return b"", True, len(data), 0
    end = data.rfind(b"\n") + 1
    if not end and len(data) >= PIECE_BYTES:
        return b"", True, len(data), 1
    if ended and len(data) < PIECE_BYTES:
        end = len(data)
    end = max(start, end)
    return data[start:end], False, end, 0


def _is_another_file(descriptor: int, mark: dict[str, Any], status: os.stat_result) -> bool:
    if mark["inode"] is None:
        return bool(status.st_size < mark["offset"])
    if mark["inode"] != status.st_ino or status.st_size < mark["offset"]:
        return True
    return bool(_head(descriptor, mark["offset"]) != mark["head"])


def _head(descriptor: int, offset: int) -> int:
    """A checksum of the first bytes before `offset`, which never change in a file that is only appended to."""
    return zlib.crc32(os.pread(descriptor, min(_HEAD_BYTES, offset), 0))
