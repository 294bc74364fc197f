"""Monitor an adopted run: turn the log of the training into metrics, write heartbeats, and record its end.

The monitor is not the parent of the training and never touches it. The exit code of a process that is not a child is
unknowable, and the records state that. The monitor takes the place of the supervisor in supervisor.json.

Part of the agent, forked from it: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from giblet_train.diagnosis.log_reader.epoch_table import EpochRow
from giblet_train.diagnosis.log_reader.value_watch import ValueRow
from giblet_tui.agent import lab, layout, run_processes, user_sessions
from giblet_tui.agent.followed_log import FollowedLog, epoch_record, values_record
from giblet_tui.agent.proc import boot_id, start_ticks
from giblet_tui.agent.records import write_record

INTERVAL_S = 0.5
SEARCH_EVERY_S = 10.0
"""Seconds between searches of all of /proc for new processes of the session, while known ones live."""
_STATEMENT_SHOWN = 160


def monitor_adopted_run(run_dir: Path) -> None:
    """Monitor a run until no process of its session is left but idle shells."""
    os.umask(int(lab.UMASK, 8) if run_processes.LocalRun(run_dir).record(layout.RUN).get("lab") else 0o077)
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
            metrics.append_values(log.complete_values(log.is_silent), began_at)
        _write_heartbeat(run, "training", metrics, log, session.eldest)
        time.sleep(INTERVAL_S)
    if log is not None:
        metrics.append(log.new_epochs(ended=True), began_at)
        metrics.append_values(log.complete_values(is_whole=True), began_at)
    is_stopped = (run_dir / layout.STOP).exists()
    _write_heartbeat(run, "stopped" if is_stopped else "ended", metrics, log, session.eldest)
    ending = {"run_id": run.run_id, "ended_at": time.time(), "code": None, "signal": None}
    with contextlib.suppress(FileExistsError):
        record = {**ending, "killed": [], "survivors": [], "stop_requested": is_stopped}
        write_record(str(run_dir / layout.EXIT), record, exclusive=True)


def started_at(pid: int) -> float:
    """Return the start time of a process in seconds since 1970; the current time if it is gone."""
    ticks = start_ticks(pid)
    if ticks is None:
        return time.time()
    up_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


class Metrics:
    """metrics.jsonl of an adopted run: one `epoch` record per epoch of the log, and `values` records of other numbers.

    `step` of an epoch counts epochs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            lines = path.read_bytes().splitlines()
        except OSError:
            lines = []
        self.seq = len(lines)
        self._n_values = sum(b'"kind": "values"' in line[:40] for line in lines)
        self._to_skip = self.seq - self._n_values
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
            self._write(epoch_record(row, self.seq, max(time.time(), began_at)))
            self.seq += 1

    def append_values(self, rows: list[ValueRow], began_at: float) -> None:
        """Append the rows of named numbers after those that were written before; a log that was cut adds none."""
        for row in rows[self._n_values :]:
            self._write(values_record(row, self.seq, max(time.time(), began_at)))
            self.seq += 1
            self._n_values += 1

    def _write(self, record: dict[str, Any]) -> None:
        descriptor = os.open(str(self._path), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
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
            trainers = user_sessions.trainers(run_processes.with_mark(self._mark))
            self._start_ticks = run_processes.with_descendants(trainers)
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
