"""Monitor an adopted run: turn the log of the training into metrics, write heartbeats, and record its end.

The monitor is not the parent of the training and never touches it. The exit code of a process that is not a child is
unknowable, and the records state that. The monitor takes the place of the supervisor in supervisor.json.

Part of the agent, forked from it: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import time
from pathlib import Path
from typing import Any, Callable

from giblet_train.diagnosis.log_reader.epoch_table import EpochRow
from giblet_train.diagnosis.log_reader.key_names import COMPONENT_NAMES
from giblet_train.diagnosis.log_reader.reader import LogReader, TrainingLog
from giblet_tui.agent import layout, run_processes
from giblet_tui.agent.proc import boot_id, start_ticks, stat_fields
from giblet_tui.agent.records import write_record

INTERVAL_S = 0.5
SEARCH_EVERY_S = 10.0
"""Seconds between searches of all of /proc for new processes of the session, while known ones live."""
SETTLE_S = 2.0
"""Seconds without a new line after which the epoch being read counts as complete."""
LINE_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_GROWTHS_FOR_A_PACE = 5
_STATEMENT_SHOWN = 160
_SHELLS = {"sh", "bash", "dash", "zsh", "fish", "tcsh", "csh", "ksh", "screen", "tmux", "tmux: server"}


def monitor_adopted_run(run_dir: Path) -> None:
    """Monitor a run until no process of its session is left but idle shells."""
    own_log = os.open(str(run_dir / layout.MONITOR_LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(own_log, 1)
    os.dup2(own_log, 2)
    run = run_processes.LocalRun(run_dir)
    began_at = _write_supervisor_record(run)
    log_path = run.adopted.get("log")
    log = FollowedLog(Path(log_path)) if log_path else None
    metrics = Metrics(run_dir / layout.METRICS)
    session = _Session(str(run.adopted["mark"]))
    while session.lives():
        if log is not None:
            metrics.append(log.new_epochs(), began_at)
        _write_heartbeat(run, "training", metrics, log, session.eldest)
        time.sleep(INTERVAL_S)
    if log is not None:
        metrics.append(log.new_epochs(ended=True), began_at)
    is_stopped = (run_dir / layout.STOP).exists()
    _write_heartbeat(run, "stopped" if is_stopped else "ended", metrics, log, session.eldest)
    ending = {"run_id": run.run_id, "ended_at": time.time(), "code": None, "signal": None}
    with contextlib.suppress(FileExistsError):
        record = {**ending, "killed": [], "survivors": [], "stop_requested": is_stopped}
        write_record(str(run_dir / layout.EXIT), record, exclusive=True)


def trainers(pids: set[int]) -> set[int]:
    """Return the processes of a session that work: all but shells, multiplexers and this process."""
    return {pid for pid in pids if pid != os.getpid() and _name(pid) not in _SHELLS}


def started_at(pid: int) -> float:
    """Return the start time of a process in seconds since 1970; the current time if it is gone."""
    ticks = start_ticks(pid)
    if ticks is None:
        return time.time()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


class FollowedLog:
    """A growing log, read as epochs. A log that is cut short or replaced is read again from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._inode, self._rest = 0, -1, b""
        self._grew_at: float | None = None
        self._silences: list[float] = []
        self._restart()

    def _restart(self) -> None:
        self._reader = LogReader()
        self._last_returned: int | None = None

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
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._offset, self._inode, self._rest = 0, status.st_ino, b""
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
        if ended or self._is_silent():
            rows += self._advance(self._reader.flush)
            rows += self._take(self._reader.table.epoch)
        return rows

    def _read(self, line: bytes) -> list[EpochRow]:
        text = line[:LINE_BYTES].decode("utf-8", "replace")
        return self._advance(lambda: self._reader.feed(text))

    def _advance(self, read: Callable[[], None]) -> list[EpochRow]:
        """Read on, and return the epoch that was being read if another one has begun."""
        before = self._reader.table.epoch
        read()
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

    def _is_silent(self) -> bool:
        return self._grew_at is not None and time.monotonic() - self._grew_at >= SETTLE_S

    def _note_growth(self) -> None:
        now = time.monotonic()
        if self._grew_at is not None:
            self._silences = [*self._silences[-99:], now - self._grew_at]
        self._grew_at = now


class Metrics:
    """metrics.jsonl of an adopted run: one `epoch` record per epoch of the log; `step` counts epochs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.seq = path.read_bytes().count(b"\n")
        except OSError:
            self.seq = 0
        self._to_skip = self.seq
        self.epoch: int | None = None

    def append(self, rows: list[EpochRow], began_at: float) -> None:
        """Append records, except those that an earlier monitor of the run wrote.

        A log does not contain the time of an epoch, so its record has the time at which its line was read.
        """
        for row in rows:
            self.epoch = row.epoch
            if self._to_skip:
                self._to_skip -= 1
                continue
            self._write(_record(row, self.seq, max(time.time(), began_at)))
            self.seq += 1

    def _write(self, record: dict[str, Any]) -> None:
        descriptor = os.open(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, json.dumps(record).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)


class _Session:
    """Processes of a session that work."""

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._start_ticks: dict[int, int] = {}
        self._search_at = 0.0
        self.eldest = 0

    def lives(self) -> bool:
        """Return True if a process of the session still works."""
        self._start_ticks = {pid: ticks for pid, ticks in self._start_ticks.items() if start_ticks(pid) == ticks}
        if not self._start_ticks or time.monotonic() >= self._search_at:
            self._search_at = time.monotonic() + SEARCH_EVERY_S
            self._start_ticks = run_processes.with_descendants(trainers(run_processes.with_mark(self._mark)))
            self._start_ticks.pop(os.getpid(), None)
        if self._start_ticks:
            self.eldest = min(self._start_ticks, key=lambda pid: self._start_ticks[pid])
        return bool(self._start_ticks)


def _write_supervisor_record(run: run_processes.LocalRun) -> float:
    """Write supervisor.json for the monitor. Returns the time at which it began."""
    pid, began_at = os.getpid(), time.time()
    record = {"run_id": run.run_id, "pid": pid, "start_ticks": start_ticks(pid), "boot_id": boot_id()}
    write_record(str(run.path / layout.SUPERVISOR), {**record, "started_at": began_at, "argv": []})
    return began_at


def _record(row: EpochRow, seq: int, at: float) -> dict[str, Any]:
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


def _components(parts: Any) -> dict[str, float | None]:
    return {name: _number(parts[name]) for name in COMPONENT_NAMES if name in parts}


def _write_heartbeat(
    run: run_processes.LocalRun, state: str, metrics: Metrics, log: FollowedLog | None, pid: int
) -> None:
    """Write a heartbeat, dated by the log's last growth once its pace is known, and by now before that."""
    pace_s = log.pace_s if log else None
    changed_at = log.changed_at if log else None
    progress = _progress(metrics, log)
    heartbeat = {
        "state": state,
        "step": metrics.epoch or 0,
        "epoch": metrics.epoch or 0,
        "phase": progress if log else "no log is known; its processes live",
        "at": changed_at if pace_s is not None and changed_at is not None else time.time(),
        "pid": pid,
        "boot_id": boot_id(),
        "start_ticks": start_ticks(pid) or 0,
        "step_s": pace_s,
        "why": _end_sentence(progress, log) if state == "ended" else "",
    }
    with contextlib.suppress(OSError):  # a full disk: the next heartbeat may succeed
        write_record(str(run.path / layout.HEARTBEAT), heartbeat)


def _progress(metrics: Metrics, log: FollowedLog | None) -> str:
    if log is None:
        return "no log is known"
    if metrics.epoch is None:
        return "its log shows no epoch yet"
    n_epochs = log.planned_epochs
    return f"epoch {metrics.epoch}{f' of {n_epochs}' if n_epochs else ''} has ended, by its log"


def _end_sentence(progress: str, log: FollowedLog | None) -> str:
    """Return how the run ended: its progress, and what the log states about the end."""
    if log is None:
        return "its processes have ended; adopted without a log, so its exit code is not known"
    result = log.result
    statements = {"early_stop": "early stopping", "complete": "complete", "interrupted": "stopped by hand"}
    if result.end.statement:
        line = result.end.statement_line[:_STATEMENT_SHOWN]
        progress += f", {statements[result.end.statement]} ({line})"
    elif result.completed:
        progress += ", the last planned one"
    elif result.end.root_error is not None:
        progress += f", then an error: {result.end.root_error.text[:_STATEMENT_SHOWN]}"
    return f"{progress}; adopted, so its exit code is not known"


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip().lower() if stat_fields(pid) else ""
    except OSError:
        return ""


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
