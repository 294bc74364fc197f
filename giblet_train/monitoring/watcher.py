"""Watch a run: read its records as they are written, diagnose them, write alerts, and call `watch.notify`.

The supervisor starts the watcher next to the trainer and ends it last. It uses no GPU and a few percent of a core.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from giblet_train.diagnosis import alerts as alerting
from giblet_train.diagnosis.alert_responses import silenced_by
from giblet_train.diagnosis.criteria import hopeless_criterion, verdict_of
from giblet_train.diagnosis.diagnose import diagnose
from giblet_train.diagnosis.log_reader.log_files import read_file
from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.monitoring import notify
from giblet_train.monitoring.run_end import read_record, recorded_end
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.health import Health, Signals, health_of
from giblet_train.schema.notify_target import parse_targets
from giblet_train.schema.records import (
    Alert,
    AlertResponse,
    AnyMetric,
    Exit,
    Heartbeat,
    SupervisorRecord,
    decode_lines,
    decode_metrics,
    encode,
)
from giblet_train.schema.run_dir import RunDir, replace_file

LOOK_EVERY_S = 2.0
SHARE_OF_CORE = 0.02
NOTIFY_LIMIT_S = 10.0
LAST_NOTIFY_LIMIT_S = 3.0
"""The supervisor gives the watcher 5 s after the end of the run."""
TAIL_BYTES = 64 * 1024
TAIL_LINES = 200

Say = Callable[[str], None]


def watch(path: Path, say: Say, every_s: float = LOOK_EVERY_S) -> None:
    """Watch a run until it ends or SIGTERM arrives, and check it once more then.

    Args:
        path: the run directory.
        say: called with each alert as a sentence.
        every_s: pause between two checks; longer where a check itself takes long.

    Raises ConfigError if the run has no readable configuration.
    """
    end_request = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda number, frame: end_request.set())
    try:
        watcher = Watcher(RunDir(path.resolve()), say)
        pause_s = 0.0
        while not end_request.wait(pause_s) and not watcher.ended:
            began = time.monotonic()
            watcher.check()
            pause_s = max(every_s, (time.monotonic() - began) / SHARE_OF_CORE)
        watcher.check(last=True)
    finally:
        signal.signal(signal.SIGTERM, previous)


class Watcher:
    """Records that were read of a run, and its active alerts."""

    def __init__(self, run_dir: RunDir, say: Say) -> None:
        """Raises ConfigError if a run of giblet's trainer has no readable configuration."""
        self.run_dir, self._say = run_dir, say
        run = run_dir.read_run() if run_dir.run.exists() else None
        self.config = run_dir.read_config() if run is None or not run.foreign else None
        self._settings = self.config.watch if self.config is not None else WatchConfig()
        self._targets = parse_targets(self._settings.notify)
        self.launched_at = run.launched_at if run is not None else time.time()
        sweep = run.sweep if run is not None else None
        self._ends_hopeless = sweep is not None and sweep.stop_hopeless and self.config is not None
        self.watched = alerting.restore_state(decode_lines(_lines(run_dir.alerts), Alert))
        self.metrics: list[AnyMetric] = []
        self._offset, self._inode = 0, 0
        self._silent: set[str] = set()
        self._unwritten: list[Alert] = []

    def say(self, sentence: str) -> None:
        """Print a sentence if the log can be written; on a full disk `watch.notify` must still be called."""
        with contextlib.suppress(OSError):
            self._say(sentence)

    @property
    def ended(self) -> bool:
        """Return True if the run or its supervisor has recorded the end."""
        heartbeat = read_record(self.run_dir.heartbeat, Heartbeat)
        return self.run_dir.exit.exists() or (
            heartbeat is not None and heartbeat.state in ("finished", "stopped", "failed")
        )

    def check(self, *, last: bool = False) -> None:
        """Read new records, diagnose the run, and report new alerts. last: the run has ended."""
        self._read()
        health = self._ending() if last else self._health()
        log, tail = (_whole_log(self.run_dir.log), ()) if last else (None, _tail(self.run_dir.log))
        run_id = self.run_dir.run_id
        diagnosis = diagnose(self.config, self.metrics, health=health, log_tail=tail, log=log, run_id=run_id)
        step = self.metrics[-1].step if self.metrics else 0
        self.watched, alerts = alerting.update(self.watched, diagnosis, self._settings, step, time.time(), last=last)
        self._unwritten += alerts
        if self._unwritten and _append(self.run_dir.alerts, self._unwritten):
            self._unwritten = []
        for alert in alerts:
            self.say(f"alert {alert.state}: {alert.name}: {alert.sentence}")
        if not last and self._ends_hopeless:
            self._end_if_hopeless(health)
        self._notify(alerts, NOTIFY_LIMIT_S if not last else LAST_NOTIFY_LIMIT_S)

    def _end_if_hopeless(self, health: Health) -> None:
        """Ask the trainer to save and stop if the run can no longer pass; its sweep was launched so."""
        assert self.config is not None
        criterion = hopeless_criterion(self.config, verdict_of(self.config, self.metrics, health))
        if criterion is None or self.run_dir.stop.exists():
            return
        request = {"at": time.time(), "by": "watcher", "why": f"{criterion.name}: {criterion.sentence}"}
        with contextlib.suppress(OSError):
            replace_file(self.run_dir.stop, msgspec.json.encode(request) + b"\n", private=True)
            self.say(f"stopped early, because it can no longer pass: {criterion.name}: {criterion.sentence}")

    def _notify(self, alerts: Sequence[Alert], limit_s: float) -> None:
        """Send new alerts to every target, and alerts whose snooze has ended; snoozed ones are left out."""
        now = time.time()
        answers = decode_lines(_lines(self.run_dir.answers), AlertResponse)
        silent = {a.name for a in self.watched.raised.values() if silenced_by(a, answers, now)}
        alerts_awake = [self.watched.raised[name] for name in self._silent - silent if name in self.watched.raised]
        self._silent = silent
        for alert in [*(a for a in alerts if not silenced_by(a, answers, now)), *alerts_awake]:
            for target in self._targets:
                notify.send(target, self.run_dir.run_id, alert, self.say, limit_s)

    def _read(self) -> None:
        """Read new complete lines of metrics.jsonl; start again if the file was replaced or has become shorter."""
        try:
            with self.run_dir.metrics.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._offset, self._inode, self.metrics = 0, status.st_ino, []
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return
        n_bytes = data.rfind(b"\n") + 1
        self._offset += n_bytes
        self.metrics += decode_metrics(data[:n_bytes].splitlines())[0]

    def _health(self) -> Health:
        """Return the health by the heartbeat; the process is alive, because its supervisor runs this watcher."""
        heartbeat = read_record(self.run_dir.heartbeat, Heartbeat)
        now = time.time()
        return health_of(
            Signals(now=now, launched_at=self.launched_at, process=True, heartbeat=heartbeat), self._settings
        )

    def _ending(self) -> Health:
        """Return how the run ended, by its exit record, or else by its last heartbeat (the record is written later)."""
        health = recorded_end(self.run_dir, self._settings)
        if health is not None and (health.state == "failed" or self.run_dir.exit.exists()):
            return health
        if self.run_dir.stop.exists():
            return Health(state="stopped", sentence="stopped on request")
        return health or self._end_of_command()

    def _end_of_command(self) -> Health:
        """Return how the command ended, by the supervisor's record of it."""
        supervisor = read_record(self.run_dir.supervisor, SupervisorRecord)
        if supervisor is None or (supervisor.code is None and supervisor.signal is None):
            return Health(state="died", sentence="its processes ended without a record", reason="killed")
        now = time.time()
        ending = Exit(
            run_id=supervisor.run_id, ended_at=now, code=supervisor.code, signal=supervisor.signal, by_itself=True
        )
        return health_of(Signals(now=now, launched_at=self.launched_at, process=False, exit=ending), self._settings)


def _append(path: Path, alerts: Sequence[Alert]) -> bool:
    """Append all alerts or none. Returns False if they could not be written."""
    data = b"".join(encode(alert) + b"\n" for alert in alerts)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, data) == len(data):
            return True
        os.ftruncate(descriptor, size)
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return False


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _whole_log(path: Path) -> TrainingLog | None:
    """Return what the whole log shows; None if it cannot be read."""
    try:
        return read_file(path)
    except (OSError, EOFError):
        return None


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
