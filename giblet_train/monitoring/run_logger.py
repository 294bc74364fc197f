"""Write the records of a run. Rank 0 is the only writer of heartbeat.json and metrics.jsonl.

Each record is one complete line in one write. Records that cannot be written (disk full) are kept in order and written
with the next record, so a reader never sees half a line and training continues. Lines for people, which go to a log on
the same disk, are then dropped.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal, TypeVar

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.history import before_step, read_history, renumbered
from giblet_train.schema.records import EventMetric, Heartbeat, Metric, Number, TrainerState, encode
from giblet_train.schema.run_dir import RunDir, write_record

HEARTBEAT_EVERY_S = 1.0
MAX_WAITING = 20_000
M = TypeVar("M", bound=Metric)


class RunLogger:
    """Writer of a run's records. With `active` false, as on all ranks but the first, it writes nothing."""

    def __init__(self, run_dir: RunDir, *, active: bool = True) -> None:
        """Raises ConfigError if another process writes these records, PreflightRefused if they cannot be written."""
        self.active = active
        self.step, self.epoch = 0, 1
        self._run_dir = run_dir
        self._pending_lines: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._warned = False
        self._beaten_at = 0.0
        self._heartbeat: dict[str, Any] = {"state": "loading", "phase": "starting"}
        self._identity: dict[str, Any] = {"pid": os.getpid(), "boot_id": boot_id(), "start_ticks": start_ticks()}
        self._seq = self._n_lines_at_start = 0
        if active:
            try:
                self._file = os.open(run_dir.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                self._lock_exclusively()
                self._seq = self._n_lines_at_start = _truncate_partial_line(run_dir.metrics)
            except OSError as error:
                raise PreflightRefused(
                    f"{run_dir.metrics} cannot be written: {error.strerror}.",
                    "Free disk space there, or check its permissions.",
                ) from None

    def _lock_exclusively(self) -> None:
        """Take a lock that ends with this process. Raises ConfigError if another process writes this run's records."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise ConfigError(
                f"Another process is training in {self._run_dir.path}.", "Stop it first, or launch a run of its own."
            ) from None

    def close(self) -> None:
        """Retry pending records once and close the file."""
        if self.active:
            self._flush()
            os.close(self._file)
            self.active = False

    def copy_history(self, source: RunDir, step: int) -> None:
        """Copy the records of the run that this one resumes at a step, so that this directory is complete.

        Only a directory without records of its own is filled. A source without records is no error: a checkpoint file
        may have been copied alone.
        """
        if not self.active or self._n_lines_at_start:
            return
        try:
            records = before_step(read_history(source), step)
        except ConfigError:
            self.log_event("history_missing", "warning", f"{source.metrics} is missing: the history starts here.")
            return
        lines = b"".join(encode(record) + b"\n" for record in renumbered(records, self._seq))
        if self._append(lines):
            self._seq += len(records)

    def log_metric(self, kind: type[M], **fields: Any) -> M:
        """Append a record; seq, step, epoch and time are filled in unless given."""
        stamp = {"seq": self._seq, "step": self.step, "epoch": self.epoch, "at": time.time()}
        metric = kind(**(stamp | fields))
        if self.active:
            self._pending_lines.append(encode(metric) + b"\n")
            self._seq += 1
            self._flush()
        return metric

    def log_event(self, name: str, level: Literal["info", "warning", "error"], sentence: str, **facts: Any) -> None:
        """Append an event, and print it if its level is above info."""
        self.log_metric(EventMetric, name=name, level=level, sentence=sentence, facts=facts)
        if level != "info":
            self.print_line(f"{level}: {sentence}")

    def print_line(self, sentence: str) -> None:
        """Print a line for people, if the disk has room for it."""
        if self.active:
            with contextlib.suppress(OSError):
                sys.stdout.write(sentence + "\n")
                sys.stdout.flush()

    def heartbeat(self, state: TrainerState, phase: str = "", *, why: str = "", step_s: Number = None) -> None:
        """Replace the heartbeat, at most once a second while the state stays the same."""
        if not self.active:
            return
        changed = state != self._heartbeat["state"] or bool(why)
        self._heartbeat |= {"state": state, "phase": phase or state, "why": why}
        if step_s is not None:
            self._heartbeat["step_s"] = step_s
        if changed or time.monotonic() - self._beaten_at >= HEARTBEAT_EVERY_S:
            self._write_heartbeat()

    def set_last_checkpoint(self, name: str, step: int) -> None:
        """Store the newest intact checkpoint in the heartbeat."""
        self._heartbeat |= {"last_checkpoint": name, "last_checkpoint_step": step}

    def _write_heartbeat(self) -> None:
        heartbeat = Heartbeat(step=self.step, epoch=self.epoch, at=time.time(), **(self._identity | self._heartbeat))
        try:
            write_record(self._run_dir.heartbeat, heartbeat)
            self._beaten_at = time.monotonic()
        except OSError as error:
            self._warn_once(error)

    def _flush(self) -> None:
        while self._pending_lines and self._append(self._pending_lines[0]):
            self._pending_lines.popleft()

    def _append(self, lines: bytes) -> bool:
        """Append complete lines; leave the file as it was and return False if they do not fit on the disk."""
        try:
            size = os.fstat(self._file).st_size
            if os.write(self._file, lines) == len(lines):
                return True
            os.ftruncate(self._file, size)
        except OSError as error:
            self._warn_once(error)
        return False

    def _warn_once(self, error: OSError) -> None:
        if not self._warned:
            self.print_line(f"warning: {self._run_dir.path} cannot be written: {error.strerror}. Training continues.")
        self._warned = True


def _truncate_partial_line(path: Path) -> int:
    """Remove an incomplete last line, and return the number of lines."""
    if not path.exists():
        return 0
    with path.open("r+b") as file:
        data = file.read()
        n_bytes = data.rfind(b"\n") + 1
        if n_bytes < len(data):
            file.truncate(n_bytes)
    return data.count(b"\n")


def boot_id() -> str:
    """Return an id that changes with every boot; empty where the system has none."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def start_ticks() -> int:
    """Return the start of this process in clock ticks since boot; with pid and boot id it identifies the process."""
    fields = _read("/proc/self/stat").rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def resident_gib() -> float | None:
    """Return the private memory of this process in GiB, without shared file pages."""
    fields = _read("/proc/self/statm").split()
    if len(fields) < 3:
        return None
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 2**30


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
