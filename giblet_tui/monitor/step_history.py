"""Steps of a run that is watched for long: the newest in memory, the others in a file that no other program sees.

A run of weeks has hundreds of thousands of steps, of about 0.9 KiB each in memory. A screen needs the newest, and the
rules that judge a run read all of them now and then; those come back exactly as they were.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, overload

import msgspec

from giblet_train.schema.records import StepMetric

BLOCK_STEPS = 512
"""Steps that are moved to the file at once, in one compressed piece."""
RECENT_STEPS = 640
"""Steps that stay in memory at least; the time left is estimated from the last 600."""
SPARSE_STEPS = 400
"""Evenly spaced steps that stay in memory at most, for the first screen of the next start."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[StepMetric, ...]).decode


class StepHistory(Sequence[StepMetric]):
    """All steps of a run. Immutable: `extended` returns a longer history, and this one stays as it is.

    Iterating over old steps reads them from the file, a block at a time.
    """

    __slots__ = ("_blocks", "_first", "_n_blocks", "_recent", "_sparse", "_stride")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self._blocks = _Blocks()
        self._n_blocks = 0
        self._recent: tuple[StepMetric, ...] = ()
        self._first: tuple[StepMetric, ...] = ()
        self._sparse: tuple[StepMetric, ...] = ()
        self._stride = 1

    def extended(self, steps: Iterable[StepMetric]) -> StepHistory:
        """Return a history with these steps at its end."""
        longer = StepHistory()
        longer._blocks, longer._n_blocks, longer._first = self._blocks, self._n_blocks, self._first
        longer._sparse, longer._stride = self._sparse, self._stride
        recent = [*self._recent, *steps]
        begin = 0
        while len(recent) - begin >= RECENT_STEPS + BLOCK_STEPS:
            longer._move(tuple(recent[begin : begin + BLOCK_STEPS]))
            begin += BLOCK_STEPS
        longer._recent = tuple(recent[begin:])
        longer._first = longer._first or longer._recent[:1]
        return longer

    def sparse(self) -> tuple[StepMetric, ...]:
        """Return evenly spaced steps from the first to the last, without reading the file."""
        return (*self._sparse, *self._recent[: -1 : self._stride], *self._recent[-1:])

    def __len__(self) -> int:
        return self._n_blocks * BLOCK_STEPS + len(self._recent)

    def __iter__(self) -> Iterator[StepMetric]:
        return self._steps_at(range(len(self)))

    @overload
    def __getitem__(self, index: int) -> StepMetric: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[StepMetric, ...]: ...
    def __getitem__(self, index: int | slice) -> StepMetric | tuple[StepMetric, ...]:
        if isinstance(index, slice):
            return tuple(self._steps_at(range(*index.indices(len(self)))))
        return next(self._steps_at((range(len(self))[index],)))

    def __eq__(self, other: object) -> bool:
        if self is other:  # snapshots are compared often, and most of them share it
            return True
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def _move(self, block: tuple[StepMetric, ...]) -> None:
        """Move a block to the file; only while this history is being made."""
        self._first = self._first or block[:1]
        self._sparse += block[:: self._stride] if self._n_blocks * BLOCK_STEPS % self._stride == 0 else ()
        while len(self._sparse) > SPARSE_STEPS:
            self._sparse, self._stride = self._sparse[::2], 2 * self._stride
        self._blocks = self._blocks.with_block(self._n_blocks, block)
        self._n_blocks += 1

    def _steps_at(self, indices: Iterable[int]) -> Iterator[StepMetric]:
        n_moved = self._n_blocks * BLOCK_STEPS
        number, block = -1, self._recent
        for index in indices:
            if index >= n_moved:
                yield self._recent[index - n_moved]
            elif index == 0:
                yield self._first[0]
            else:
                if index // BLOCK_STEPS != number:
                    number = index // BLOCK_STEPS
                    block = self._blocks.read(number)
                yield block[index % BLOCK_STEPS]


def extended(steps: Sequence[StepMetric], new: Iterable[StepMetric]) -> Sequence[StepMetric]:
    """Return the steps with new ones at their end, in the form that they have."""
    return steps.extended(new) if isinstance(steps, StepHistory) else (*steps, *new)


def thinned(steps: Sequence[StepMetric], most: int) -> tuple[StepMetric, ...]:
    """Return at most `most` steps, evenly spaced, including the last."""
    items = steps.sparse() if isinstance(steps, StepHistory) else steps
    stride = -(-len(items) // most) if items else 1
    return tuple(items[::-1][::stride][::-1])


class _StepFile:
    """The file of all histories of this process: one, because a run each would use up the descriptors. It has no name.

    It grows by the blocks put into it, and ends with the process.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._size = 0
        self._lock = threading.Lock()

    def put(self, content: bytes) -> tuple[int, int] | bytes:
        """Return the place of the content in the file: offset and size; the content itself if it cannot be written."""
        with self._lock:
            try:
                if self._file is None:
                    import tempfile  # only a process that watches for long needs it

                    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._file = tempfile.TemporaryFile(buffering=0, dir=folder())  # noqa: SIM115
                if os.pwrite(self._file.fileno(), content, self._size) < len(content):
                    return content
            except OSError:
                return content
            self._size += len(content)
            return self._size - len(content), len(content)

    def read(self, place: tuple[int, int]) -> bytes:
        """Return the content at a place that `put` returned."""
        assert self._file is not None, "a block that has a place is in the file"
        offset, size = place
        return os.pread(self._file.fileno(), size, offset)


_STEP_FILE = _StepFile()


class _Blocks:
    """Compressed blocks of a run's steps, in the file of this process.

    A block that cannot be written, as on a full disk, stays in memory: a tenth of what its steps need there.
    """

    def __init__(self) -> None:
        self._places: list[tuple[int, int] | bytes] = []
        self._lock = threading.Lock()

    def with_block(self, number: int, block: Sequence[StepMetric]) -> _Blocks:
        """Return blocks of which this one has the number: these, or a copy if they have another one there already."""
        content = zlib.compress(_encode(block), 1)
        with self._lock:
            if number == len(self._places):
                self._places.append(_STEP_FILE.put(content))
                return self
            is_same = self._content(number) == content
        return self if is_same else self._copy(number).with_block(number, block)

    def read(self, number: int) -> tuple[StepMetric, ...]:
        """Return the steps of a block."""
        return _decode(zlib.decompress(self._content(number)))

    def _copy(self, n_blocks: int) -> _Blocks:
        copy = _Blocks()
        copy._places = self._places[:n_blocks]  # a place in the file never changes
        return copy

    def _content(self, number: int) -> bytes:
        place = self._places[number]
        return place if isinstance(place, bytes) else _STEP_FILE.read(place)


def folder() -> Path:
    """Return `giblet` under `$XDG_CACHE_HOME` (~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "giblet"
