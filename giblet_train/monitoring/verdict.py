"""A run directory's records held against its criteria."""

from __future__ import annotations

from pathlib import Path

import msgspec

from giblet_train.diagnosis.criteria import FailOn, Verdict, reaches_level, verdict_of
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import Heartbeat, decode, decode_metrics
from giblet_train.schema.run_dir import RunDir


def verdict_lines(path: Path, *, as_json: bool, fail_on: FailOn = "fail") -> tuple[bool, list[str]]:
    """Whether the verdict is as bad as fail_on, and the lines that say so. Raises ConfigError."""
    run_dir = RunDir(path.resolve())
    verdict = read_verdict(run_dir)
    if as_json:
        return reaches_level(verdict.status, fail_on), [msgspec.json.encode(verdict).decode()]
    lines = [f"{c.status.replace('_', ' ').upper():9} {c.name}: {c.sentence}" for c in verdict.criteria]
    return reaches_level(verdict.status, fail_on), [*lines, f"Verdict: {verdict.word}"]


def read_verdict(run_dir: RunDir) -> Verdict:
    """The verdict on what a run directory holds. Raises ConfigError when it is none."""
    config = run_dir.read_config()
    try:
        lines = run_dir.metrics.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"{run_dir.metrics} cannot be read: {error.strerror}.", "Has the run begun?") from None
    metrics, _ = decode_metrics(lines)
    return verdict_of(config, metrics, ended=run_dir.exit.exists() or _said_its_end(run_dir))


def _said_its_end(run_dir: RunDir) -> bool:
    try:
        return decode(run_dir.heartbeat.read_bytes(), Heartbeat).state in ("finished", "stopped", "failed")
    except (OSError, DataError):
        return False
