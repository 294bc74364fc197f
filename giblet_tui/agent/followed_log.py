"""Read epochs from a log while it grows, and write them as records of metrics.jsonl.

Part of the agent and of a command's monitor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Any, Callable

from giblet_train.diagnosis.log_reader.epoch_table import EpochRow, EpochTable
from giblet_train.diagnosis.log_reader.key_names import COMPONENT_NAMES
from giblet_train.diagnosis.log_reader.reader import LogReader, TrainingLog
from giblet_train.diagnosis.log_reader.value_watch import ValueRow
from giblet_tui.agent.records import open_regular

SETTLE_S = 2.0
"""Seconds without a new line after which the epoch being read counts as complete."""
MOST_PARTS = 12
LINE_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_GROWTHS_FOR_A_PACE = 5


class FollowedLog:
    """A growing log, read as epochs. A log that is cut short or replaced is read again from its start."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """offset: where to begin in the file that is there now; a replaced file is read from its start."""
        self._path = path
        self._offset, self._inode, self._rest = offset, -1, b""
        self._grew_at: float | None = None
        self._looked_at = 0.0
        self._silences: list[float] = []
        self._restart()

    def _restart(self) -> None:
        self._reader = LogReader(separates_folds=False)
        self._last_returned: int | None = None
        self._counting_table: EpochTable | None = None
        """The table that rows were returned from: another reading of the log may count its epochs differently."""
        self._values: list[ValueRow] = []
        self._n_new_lines = 0

    @property
    def result(self) -> TrainingLog:
        """Return all that the log has shown so far."""
        return self._reader.result()

    @property
    def planned_epochs(self) -> int:
        """Return the planned number of epochs; 0 if the log does not print it."""
        return self._reader.table.n_epochs

    @property
    def changed_at(self) -> float | None:
        """Return when the log last grew; None if it does not exist."""
        try:
            return self._path.stat().st_mtime
        except OSError:
            return None

    @property
    def pace_s(self) -> float | None:
        """Return the longest pause between two lines; None before a few were observed. A longer pause is a stall."""
        return max(self._silences) if len(self._silences) >= _GROWTHS_FOR_A_PACE else None

    def new_epochs(self, ended: bool = False) -> list[EpochRow]:
        """Return the epochs completed since the last call.

        An epoch is complete when the next one begins, when the log has been silent for SETTLE_S, or when it has ended:
        some programs print an epoch in several lines.
        """
        rows: list[EpochRow] = []
        self._looked_at = time.monotonic()
        try:
            with open(open_regular(str(self._path)), "rb") as file:
                status = os.fstat(file.fileno())
                is_another = self._inode not in (-1, status.st_ino)
                self._inode = status.st_ino
                if is_another or status.st_size < self._offset:
                    self._offset, self._rest = 0, b""
                    self._restart()
                file.seek(self._offset)
                for piece in iter(lambda: file.read(_PIECE_BYTES), b""):
                    self._note_growth()
                    self._offset += len(piece)
                    *lines, rest = re.split(rb"[\r\n]", self._rest + piece)
                    self._rest = rest[-LINE_BYTES:]
                    for line in lines:
                        rows += self._read(line)
        except OSError:
            pass
        if ended and self._rest:
            rows += self._read(self._rest)
        if ended or self.is_silent:
            rows += self._advance(self._reader.flush)
            rows += self._take(self._reader.table.epoch)
        return rows + self._take_undecided(complete=ended or self.is_silent, ended=ended)

    def complete_values(self, is_whole: bool) -> list[ValueRow]:
        """Return the rows of named numbers that will not change. is_whole: no more lines of the last one will come."""
        if self._n_new_lines or not self._values:
            self._values, self._n_new_lines = list(self.result.value_rows), 0
        return self._values if is_whole else self._values[:-1]

    def _read(self, line: bytes) -> list[EpochRow]:
        self._n_new_lines += 1
        text = line[:LINE_BYTES].decode("utf-8", "replace")
        return self._advance(lambda: self._reader.feed(text))

    def _advance(self, read_more: Callable[[], None]) -> list[EpochRow]:
        """Read on, and return the epoch that was being read if another one has begun."""
        before = self._reader.table.epoch
        read_more()
        after = self._reader.table.epoch
        if after is not None and self._last_returned is not None and after < self._last_returned:
            self._last_returned = None
        return self._take(before) if after != before else []

    def _take(self, epoch: int | None) -> list[EpochRow]:
        """Return the row of an epoch, unless it was returned before or shows no loss."""
        if epoch is None or epoch == self._last_returned:
            return []
        row = self._reader.table.row(epoch)
        if row is None:
            return []
        self._last_returned = epoch
        return [row]

    def _take_undecided(self, complete: bool, ended: bool) -> list[EpochRow]:
        """Return new rows of a log whose numbers get their meaning from all rows together.

        complete: the last row is complete. ended: no line will follow, so rows that could still change are returned.
        """
        table = self._counting_table or self._reader.course
        if not (table.n_observed and table.needs_all_rows) or not (table.rows_are_final or ended):
            return []
        new = [row for row in table.rows() if self._last_returned is None or row.epoch > self._last_returned]
        new = new if complete else new[:-1]
        if new:
            self._last_returned = new[-1].epoch
            self._counting_table = table
        return new

    @property
    def is_silent(self) -> bool:
        """Return True if the log has been silent for so long that the epoch being read counts as complete.

        It was silent up to the last look: nobody knows what was written since, however long ago that is.
        """
        return self._grew_at is not None and self._looked_at - self._grew_at >= SETTLE_S

    def _note_growth(self) -> None:
        now = time.monotonic()
        if self._grew_at is not None:
            self._silences = [*self._silences[-99:], now - self._grew_at]
        self._grew_at = now


def epoch_record(row: EpochRow, seq: int, at: float) -> dict[str, Any]:
    """Return an epoch as a line of metrics.jsonl."""
    validation = {"total": _number(row.validation), "loss": _components(row.validation_parts)}
    return {
        "kind": "epoch",
        "seq": seq,
        "step": row.epoch,
        "epoch": row.epoch,
        "at": at,
        "lr": _number(row.lr) or 0.0,
        "train": {"total": _number(row.train), "loss": _components(row.train_parts)},
        "validation": None if row.validation is None else validation,
        "fmri_r": _number(row.r),
    }


def values_record(row: ValueRow, seq: int, at: float) -> dict[str, Any]:
    """Return the named numbers of an epoch or step as a line of metrics.jsonl."""
    return {
        "kind": "values",
        "seq": seq,
        "step": row.step,
        "epoch": row.epoch,
        "at": at,
        "values": {name: _number(value) for name, value in row.values.items()},
        "validation": {name: _number(value) for name, value in row.validation.items()},
    }


def _components(parts: Any) -> dict[str, float | None]:
    """Return the parts of a loss, those of giblet first."""
    own = [name for name in COMPONENT_NAMES if name in parts]
    others = [name for name in parts if name not in COMPONENT_NAMES]
    return {name: _number(parts[name]) for name in (own + others)[:MOST_PARTS]}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
