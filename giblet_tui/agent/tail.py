"""Reads the lines appended to a file since it was last read: whole lines, from an exact byte, each exactly once.

A mark records how far a file was read and which file it was. It travels to the client and back, so a restarted reader
continues where the last one stopped. (Its inode may be None: any file at that path.) A file that was rotated by
renaming is first read to its end under its new name. A file that was replaced or truncated is read from its start, and
the result marks the gap: lines added in between are lost.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import glob
import os
import zlib
from pathlib import Path
from typing import Any

from giblet_tui.agent.records import open_regular

PIECE_BYTES = 1024 * 1024
"""Read at once; also the longest line: a longer one is left out, up to its end."""

_HEAD_BYTES = 64
_PACKED = (".gz", ".bz2", ".xz", ".zst")


def read_new(path: Path, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool) -> dict[str, Any] | None:
    """Read the next lines after `mark`. Returns {text, mark, reset, gap, skipped, more}, or None without news or file.

    reset: `text` begins a file from its start. gap: lines before `text` may be missing. skipped: the number of lines
    left out because they are too long. more: further lines can be read at once.

    Args:
        last_bytes: without a mark, start this far before the end, at the start of a line.
        ended: nothing will be appended, so a last line without a newline is complete.
    """
    renamed_path = _renamed_path(path, mark)
    if mark is None or renamed_path is None:
        return _read(path, mark, last_bytes, ended)
    path = Path(os.path.realpath(str(path)))
    following = _next_after(path, renamed_path)
    piece = _read(renamed_path, mark, None, ended or following is not None)
    if piece is None and following is not None:
        piece = _read(following, mark, None, ended or following != path, follows=True)
    return piece and dict(piece, more=piece["more"] or following is not None)


def _renamed_path(path: Path, mark: dict[str, Any] | None) -> Path | None:
    """Return the new path of the mark's file if it was renamed within its folder, else None."""
    if mark is None or mark["inode"] is None:
        return None
    status = _status(path)
    if status is not None and status.st_ino == mark["inode"]:
        return None
    with contextlib.suppress(OSError), os.scandir(str(Path(os.path.realpath(str(path))).parent)) as entries:
        for entry in entries:
            if entry.inode() == mark["inode"] and entry.is_file() and not _is_another(Path(entry.path), mark):
                return Path(entry.path)
    return None


def _next_after(path: Path, renamed_path: Path) -> Path | None:
    """Return the file that follows a rotated one: the next by modification time, finally `path` itself.

    None until it has content, because its writer may still use the rotated file.
    """
    last = _status(renamed_path)
    rotated_files = (
        other for other in renamed_path.parent.glob(glob.escape(path.name) + "*") if other.suffix not in _PACKED
    )
    later = [
        (status.st_mtime_ns, str(other)) for other in rotated_files if (status := _status(other)) and status.st_size
    ]
    later = [candidate for candidate in later if last is not None and candidate[0] > last.st_mtime_ns]
    return Path(min(later)[1]) if later else None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_another(path: Path, mark: dict[str, Any]) -> bool:
    with open(open_regular(str(path)), "rb") as file:
        return _is_another_file(file.fileno(), mark, os.fstat(file.fileno()))


def _read(
    path: Path, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool, follows: bool = False
) -> dict[str, Any] | None:
    try:
        descriptor = open_regular(str(path))
    except OSError:
        return None
    try:
        return _read_new(descriptor, mark, last_bytes, ended, follows)
    finally:
        os.close(descriptor)


def _read_new(
    descriptor: int, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool, follows: bool
) -> dict[str, Any] | None:
    """Read as `read_new` does. follows: this file comes after the mark's, which was read to its end."""
    status = os.fstat(descriptor)
    reset = mark is None or follows or _is_another_file(descriptor, mark, status)
    if mark is None:
        offset = _line_near_the_end(descriptor, status.st_size, last_bytes)
        skipping = offset > 0
    else:
        offset, skipping = (0, False) if reset else (mark["offset"], mark["skipping"])
    data = os.pread(descriptor, PIECE_BYTES, offset)
    text, skipping, length, n_skipped = _whole_lines(data, skipping, ended)
    offset += length
    if not length and not reset:
        return None
    return {
        "text": text.decode("utf-8", "surrogateescape"),
        "mark": {"offset": offset, "inode": status.st_ino, "head": _head(descriptor, offset), "skipping": skipping},
        "reset": reset,
        "gap": reset and mark is not None and not follows,
        "skipped": n_skipped,
        "more": offset < status.st_size and len(data) == PIECE_BYTES,
    }


def _line_near_the_end(descriptor: int, size: int, last_bytes: int | None) -> int:
    """Return an offset near `last_bytes` before the end that has a newline after it, so that no growing line is cut."""
    if last_bytes is None:
        return 0
    while last_bytes < min(size, PIECE_BYTES) and b"\n" not in os.pread(descriptor, last_bytes, size - last_bytes):
        last_bytes = min(8 * last_bytes, PIECE_BYTES)
    return max(0, size - last_bytes)


def _whole_lines(data: bytes, skipping: bool, ended: bool) -> tuple[bytes, bool, int, int]:
    """Return (lines, inside a line that is too long, bytes used, number of lines found too long)."""
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
    """Return a checksum of the first bytes before `offset`, which never change in an append-only file."""
    return zlib.crc32(os.pread(descriptor, min(_HEAD_BYTES, offset), 0))
