"""Read how a run ended from the files in its directory."""

from __future__ import annotations

from pathlib import Path

from giblet_train.schema.config import WatchConfig
from giblet_train.schema.errors import DataError
from giblet_train.schema.health import Health, Signals, health_of
from giblet_train.schema.records import Exit, Heartbeat, R, decode
from giblet_train.schema.run_dir import RunDir


def recorded_end(run_dir: RunDir, watch: WatchConfig) -> Health | None:
    """Return how a run ended, by its exit record or else its last heartbeat; None if neither records an end."""
    heartbeat = read_record(run_dir.heartbeat, Heartbeat)
    exit_record = read_record(run_dir.exit, Exit)
    if exit_record is not None:
        ended_at = exit_record.ended_at
        signals = Signals(now=ended_at, launched_at=0.0, process=False, heartbeat=heartbeat, exit=exit_record)
        return health_of(signals, watch)
    if heartbeat is None:
        return None
    if heartbeat.state == "failed":
        return Health(state="failed", sentence=heartbeat.why or "failed", reason=heartbeat.why)
    if heartbeat.state == "finished":
        return Health(state="finished", sentence=heartbeat.why or "finished all its steps")
    return Health(state="stopped", sentence="stopped on request") if heartbeat.state == "stopped" else None


def read_record(path: Path, kind: type[R]) -> R | None:
    """Return the record in a small file; None if it is missing or cannot be decoded."""
    try:
        return decode(path.read_bytes(), kind)
    except (OSError, DataError):
        return None
