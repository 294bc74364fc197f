"""Follow a command that giblet did not write: turn the losses that it prints or writes into metrics and heartbeats.

    python3 monitor.py RUN_DIR [WATCHER...]

The supervisor starts it next to the command and ends it last. It starts the watcher, where the node has one, and ends
it after its own last look. Losses are taken from `giblet_log.jsonl`, else from the command's output, else from a table
or an event file that the command writes.

Standard library only, Python >= 3.8. `monitor.py` is this module and those that it imports in one file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator

from giblet_train.diagnosis.log_reader.log_files import MAX_JSON, is_log_name, read_file
from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_tui.agent import layout
from giblet_tui.agent.followed_log import SETTLE_S, FollowedLog, epoch_record, values_record
from giblet_tui.agent.proc import boot_id
from giblet_tui.agent.records import read_record, write_record

INTERVAL_S = 0.5
SEARCH_EVERY_S = 5.0
REWRITE_EVERY_S = 10.0
"""Blocks of steps change while a log grows; their file is replaced at most so often."""
SHARE_OF_CORE = 0.05
"""Largest part of a core that reading whole files may take."""
WATCHER_LIMIT_S = 3.5
"""The supervisor gives this process 5 s after the end of the command."""
MAX_DEPTH = 4
MAX_ENTRIES = 5000
"""Limits of the search for files in the command's directory, which may contain a data set."""
GROWTHS_FOR_A_PACE = 5
_TEXT_ENDINGS = (".log", ".txt", ".out", ".err", ".jsonl")


def monitor_command(run_dir: Path, watcher_argv: list[str]) -> None:
    """Follow the run's command until TERM arrives or the supervisor is gone; look once more and end the watcher."""
    end_request = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: end_request.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # the supervisor starts it with TERM blocked
    watcher = _start_watcher(watcher_argv)
    monitor = CommandMonitor(run_dir)
    pause_s, supervisor = 0.0, os.getppid()
    while not end_request.wait(pause_s) and os.getppid() == supervisor:
        began = time.monotonic()
        _look(monitor)
        pause_s = max(INTERVAL_S, (time.monotonic() - began) / SHARE_OF_CORE)
    _look(monitor, ended=True)
    if watcher is not None:
        watcher.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            watcher.wait(WATCHER_LIMIT_S)


def _look(monitor: CommandMonitor, ended: bool = False) -> None:
    """Look once. An error of ours is printed into the run's log and must not end the watch of the command."""
    try:
        monitor.look(ended)
    except Exception as error:
        sys.stderr.write(f"giblet: the losses of this command cannot be read: {type(error).__name__}: {error}\n")
        sys.stderr.flush()


class CommandMonitor:
    """What a command has shown so far, and the records made of it."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        run = read_record(str(run_dir / layout.RUN))
        command = run.get("command") or {}
        self._supervisor = read_record(str(run_dir / layout.SUPERVISOR))
        began_at = float(self._supervisor.get("started_at") or 0.0)
        self._sources = Sources(run_dir, Path(command.get("cwd") or run_dir), command.get("log") or "", began_at)
        self._metrics = MetricsFile(run_dir / layout.METRICS)
        self._changed_at: float | None = None
        self._grew_at = 0.0
        self._pauses: list[float] = []

    def look(self, ended: bool = False) -> None:
        """Read what is new and write it down. A full disk is no error: the next look may succeed."""
        self._sources.read(ended)
        log, changed_at = self._sources.log, self._sources.changed_at
        self._note_growth(changed_at)
        with contextlib.suppress(OSError):
            self._metrics.update(self._sources.complete_rows(ended), self._sources.complete_values(ended), ended)
            write_record(str(self._run_dir / layout.HEARTBEAT), self._heartbeat(log, ended))

    def _note_growth(self, changed_at: float | None) -> None:
        now = time.monotonic()
        if changed_at is not None and changed_at != self._changed_at:
            if self._changed_at is not None:
                self._pauses = [*self._pauses[-99:], now - self._grew_at]
            self._changed_at, self._grew_at = changed_at, now

    def _heartbeat(self, log: TrainingLog, ended: bool) -> dict[str, Any]:
        """Return the heartbeat: dated by the last output once the pace of a whole epoch is known, by now before."""
        epoch = self._metrics.epoch
        pace_s = max(self._pauses) if epoch is not None and len(self._pauses) >= GROWTHS_FOR_A_PACE else None
        return {
            "state": "training",
            "step": epoch or self._metrics.step or 0,
            "epoch": epoch or 0,
            "phase": _phase(log, epoch, self._metrics.step, ended),
            "at": self._changed_at if pace_s is not None and self._changed_at is not None else time.time(),
            "pid": self._supervisor.get("pid") or 0,
            "boot_id": boot_id(),
            "start_ticks": self._supervisor.get("start_ticks") or 0,
            "step_s": pace_s,
        }


class Sources:
    """The files in which a command may show losses, and the one that does."""

    def __init__(self, run_dir: Path, cwd: Path, log_path: str, began_at: float) -> None:
        """Prepare to look.

        Args:
            log_path: the file that the user names, relative to `cwd`; empty to search.
            began_at: start of the run; files that are older belong to others.
        """
        self._cwd = cwd
        self._output = FollowedLog(run_dir / layout.LOG)
        self._began_at = began_at
        self._search_at = 0.0
        there = cwd / layout.COMMAND_LOG
        self._own = [(run_dir / layout.COMMAND_LOG, 0), (there, _size(there) if _modified(there) < began_at else 0)]
        """Files of `giblet_train.log`, and their sizes at the start: an earlier run may have written there."""
        self._file: FollowedLog | WholeFile | None = _source(cwd / log_path, 0) if log_path else None

    @property
    def log(self) -> TrainingLog:
        """Return what the file that shows losses has shown so far."""
        return self._source.result

    @property
    def changed_at(self) -> float | None:
        """Return when the command last wrote something that is followed; None if it never did."""
        times = [at for at in (self._output.changed_at, self._source.changed_at) if at is not None]
        return max(times, default=None)

    def read(self, ended: bool) -> None:
        """Read what is new in the output and in the file that shows losses; search for one if none does."""
        self._output.new_epochs(ended)
        if self._file is None:
            self._file = self._find(ended)
        if self._file is not None:
            self._file.new_epochs(ended)

    def complete_rows(self, ended: bool) -> list[Any]:
        """Return the rows that will not change: all but the epoch that is being read."""
        log = self.log
        rows = list(log.rows)
        if rows and not log.is_blocks and not ended and not self._source.is_silent:
            rows = [row for row in rows if row.epoch != log.last_epoch]
        return rows

    def complete_values(self, ended: bool) -> list[Any]:
        """Return the rows of named numbers that will not change."""
        rows = list(self.log.value_rows)
        return rows if ended or self._source.is_silent else rows[:-1]

    @property
    def _source(self) -> FollowedLog | WholeFile:
        return self._output if self._file is None else self._file

    def _find(self, ended: bool) -> FollowedLog | WholeFile | None:
        """Return the file that shows losses; None while only the output may. Its output counts before other files."""
        for path, size in self._own:
            if _size(path) > size:
                return FollowedLog(path, size)
        output = self._output.result
        if output.rows or (time.monotonic() < self._search_at and not ended):
            return None
        self._search_at = time.monotonic() + SEARCH_EVERY_S
        for path in sorted(_written_since(self._cwd, self._began_at), key=_modified, reverse=True):
            source = _source(path, 0)
            source.new_epochs(ended)
            if source.result.rows or (source.result.value_rows and not output.value_rows):
                return source
        return None


class WholeFile:
    """A table, JSON document or event file: read again as a whole when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[float, int] | None = None
        self._changed = self._looked_at = time.monotonic()
        self.result = TrainingLog()

    @property
    def changed_at(self) -> float | None:
        """Return when the file last changed; None if it does not exist."""
        return _modified(self._path) or None

    @property
    def is_silent(self) -> bool:
        """Return True if at the last look it had not changed for so long that its last epoch counts as complete."""
        return self._looked_at - self._changed >= SETTLE_S

    def new_epochs(self, ended: bool = False) -> None:
        """Read the file if it has changed. A file that is being written may be incomplete: it is read again later."""
        self._looked_at = time.monotonic()
        stamp = (_modified(self._path), _size(self._path))
        if stamp == self._stamp or stamp[1] > MAX_JSON or not self._path.is_file():
            return
        self._stamp, self._changed = stamp, time.monotonic()
        with contextlib.suppress(Exception):  # a half-written file raises what its format raises
            self.result = read_file(self._path)


class MetricsFile:
    """metrics.jsonl of a command: an `epoch` record per row of its log, and a `values` record per row of other numbers.

    `step` of an epoch counts epochs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._epochs: list[dict[str, Any]] = []
        self._values: list[dict[str, Any]] = []
        self._rewritten_at = -REWRITE_EVERY_S
        self._n_rewrites = 0

    @property
    def epoch(self) -> int | None:
        """Return the last epoch in the file, counted as the log counts; None before the first."""
        last = (self._epochs or [record for record in self._values[-1:] if record["epoch"]])[-1:]
        return int(last[0]["epoch"]) if last else None

    @property
    def step(self) -> int | None:
        """Return the last step in the file, of a log that counts no epochs; None without one."""
        return int(self._values[-1]["step"]) if self._values else None

    def update(self, rows: list[Any], value_rows: list[Any], ended: bool = False) -> None:
        """Append the rows that are new. If earlier ones have changed, replace the file: a restart repeats epochs."""
        now = time.time()
        epochs = _dated([epoch_record(row, 0, now) for row in rows], self._epochs)
        values = _dated([values_record(row, 0, now) for row in value_rows], self._values)
        n_epochs, n_values = len(self._epochs), len(self._values)
        if epochs[:n_epochs] == self._epochs and values[:n_values] == self._values:
            new = [*epochs[n_epochs:], *values[n_values:]]
            if new:
                self._append([dict(record, seq=n_epochs + n_values + i) for i, record in enumerate(new)])
                self._epochs, self._values = epochs, values
        elif ended or time.monotonic() - self._rewritten_at >= REWRITE_EVERY_S:
            self._replace([dict(record, seq=i) for i, record in enumerate((*epochs, *values))])
            self._epochs, self._values = epochs, values

    def _append(self, records: list[dict[str, Any]]) -> None:
        data = b"".join(_line(record) for record in records)
        descriptor = os.open(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)

    def _replace(self, records: list[dict[str, Any]]) -> None:
        self._rewritten_at = time.monotonic()
        self._n_rewrites += 1
        aside = self._path.with_name(self._path.name + ".tmp")
        # Readers distinguish files by their first bytes, so these differ each time.
        lines = [_line(dict({"rewrite": self._n_rewrites}, **record)) for record in records]
        with open(os.open(str(aside), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb") as file:
            file.writelines(lines)
        os.replace(str(aside), str(self._path))


def main(argv: list[str]) -> int:
    """Monitor the command of the run directory on the command line; the rest is the watcher's command."""
    if len(argv) < 2:
        sys.stderr.write("usage: python3 monitor.py RUN_DIR [WATCHER...]\n")
        return 2
    monitor_command(Path(argv[1]), argv[2:])
    return 0


def _start_watcher(argv: list[str]) -> subprocess.Popen[bytes] | None:
    if not argv:
        return None
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"giblet: no alerts are raised: {argv[0]}: {error.strerror}\n")
        return None


def _source(path: Path, offset: int) -> FollowedLog | WholeFile:
    """Return what follows a file: line by line if it is text, else as a whole."""
    return FollowedLog(path, offset) if path.name.endswith(_TEXT_ENDINGS) else WholeFile(path)


def _written_since(folder: Path, began_at: float) -> Iterator[Path]:
    """Yield the logs in a folder, and some levels below it, that were written since a time."""
    n_left = MAX_ENTRIES
    folders = [(folder, 0)]
    while folders:
        current, depth = folders.pop(0)
        try:
            entries = sorted(os.scandir(str(current)), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            n_left -= 1
            if n_left < 0:
                return
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH and not entry.name.startswith("."):
                    folders.append((Path(entry.path), depth + 1))
            elif entry.is_file() and is_log_name(entry.name) and _modified(Path(entry.path)) >= began_at:
                yield Path(entry.path)


def _phase(log: TrainingLog, epoch: int | None, step: int | None, ended: bool) -> str:
    if epoch is None and step is not None:
        return f"no loss, but other numbers up to step {step} were read from its log"
    if epoch is None:
        return "no loss was read from its output" + ("" if ended else " yet")
    if log.is_blocks:
        return f"{epoch} blocks of steps were read from its log"
    return f"epoch {epoch}{f' of {log.n_epochs}' if log.n_epochs else ''} has ended, by its log"


def _dated(records: list[dict[str, Any]], earlier: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each record the time of the earlier one at its place, so that it is equal to it unless it has changed."""
    for old, new in zip(earlier, records):
        new["at"] = old["at"]
    return records


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode("ascii") + b"\n"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
