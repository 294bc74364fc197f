"""What was appended to a file since it was last read: whole lines, from an exact byte, each of them once.

A mark says how far a file was read and which file it was; it travels to the client and back, so a reader that begins
anew goes on where the last one stopped. (Its inode may be None: whichever file stands there.) A file that was rotated
by renaming is read to its end under its new name first. One that was replaced or cut short is read from its start, and
that is said: what it had gained since the last look is gone.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import glob
import os
import zlib
from pathlib import Path
from typing import Any

PIECE_BYTES = 1024 * 1024
"""Read at once; also the longest line: a longer one is left out, up to its end."""

_HEAD_BYTES = 64
_PACKED = (".gz", ".bz2", ".xz", ".zst")


def read_new(path: Path, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool) -> dict[str, Any] | None:
    """The next lines after `mark`: {text, mark, reset, gap, skipped, more}; None when there is nothing new, or no file.

    last_bytes: without a mark, begin so far before the end, at a line. ended: nothing will be appended, so what stands
    there without a newline is a line too. reset: `text` begins a file anew; gap: after another one of which lines may
    be missing. skipped: lines left out for their length.
    """
    moved = _where_it_is(path, mark)
    if mark is None or moved is None:
        return _read(path, mark, last_bytes, ended)
    path = Path(os.path.realpath(str(path)))
    following = _next_after(path, moved)
    piece = _read(moved, mark, None, ended or following is not None)
    if piece is None and following is not None:
        piece = _read(following, mark, None, ended or following != path, follows=True)
    return piece and dict(piece, more=piece["more"] or following is not None)


def _where_it_is(path: Path, mark: dict[str, Any] | None) -> Path | None:
    """The file of the mark under its new name, if it was renamed within its folder and is that file still."""
    if mark is None or mark["inode"] is None:
        return None
    stands = _status(path)
    if stands is not None and stands.st_ino == mark["inode"]:
        return None
    with contextlib.suppress(OSError), os.scandir(str(Path(os.path.realpath(str(path))).parent)) as entries:
        for entry in entries:
            if entry.inode() == mark["inode"] and entry.is_file() and not _is_another(Path(entry.path), mark):
                return Path(entry.path)
    return None


def _next_after(path: Path, moved: Path) -> Path | None:
    """What was begun after a rotated file: the next of its kind by the time of its last change, at last `path` itself.

    Until something stands there, its writer may go on in the rotated one: None.
    """
    last = _status(moved)
    rotated = (other for other in moved.parent.glob(glob.escape(path.name) + "*") if other.suffix not in _PACKED)
    later = [(status.st_mtime_ns, str(other)) for other in rotated if (status := _status(other)) and status.st_size]
    later = [each for each in later if last is not None and each[0] > last.st_mtime_ns]
    return Path(min(later)[1]) if later else None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_another(path: Path, mark: dict[str, Any]) -> bool:
    with path.open("rb") as file:
        return _is_another_file(file.fileno(), mark, os.fstat(file.fileno()))


def _read(
    path: Path, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool, follows: bool = False
) -> dict[str, Any] | None:
    try:
        descriptor = os.open(str(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read_new(descriptor, mark, last_bytes, ended, follows)
    finally:
        os.close(descriptor)


def _read_new(
    descriptor: int, mark: dict[str, Any] | None, last_bytes: int | None, ended: bool, follows: bool
) -> dict[str, Any] | None:
    """follows: the file of the mark was read to its end, and this one comes after it."""
    status = os.fstat(descriptor)
    reset = mark is None or follows or _is_another_file(descriptor, mark, status)
    if mark is None:
        offset = _line_near_the_end(descriptor, status.st_size, last_bytes)
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
        "gap": reset and mark is not None and not follows,
        "skipped": skipped,
        "more": offset < status.st_size and len(data) == PIECE_BYTES,
    }


def _line_near_the_end(descriptor: int, size: int, last_bytes: int | None) -> int:
    """Where to begin for the last bytes of a file, with a newline after it: else a line that grows would be torn."""
    if last_bytes is None:
        return 0
    while last_bytes < min(size, PIECE_BYTES) and b"\n" not in os.pread(descriptor, last_bytes, size - last_bytes):
        last_bytes = min(8 * last_bytes, PIECE_BYTES)
    return max(0, size - last_bytes)


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
