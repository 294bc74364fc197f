"""Judge the records in a run directory by its criteria."""

from __future__ import annotations

from pathlib import Path

import msgspec

from giblet_train.diagnosis.criteria import FailOn, Verdict, reaches_level, verdict_of
from giblet_train.monitoring.run_end import recorded_end
from giblet_train.schema.history import read_history
from giblet_train.schema.run_dir import RunDir


def verdict_lines(path: Path, *, as_json: bool, fail_on: FailOn = "fail") -> tuple[bool, list[str]]:
    """Return whether the verdict is at least as bad as `fail_on`, and lines that explain it. Raises ConfigError."""
    run_dir = RunDir(path.resolve())
    verdict = read_verdict(run_dir)
    if as_json:
        return reaches_level(verdict.status, fail_on), [msgspec.json.encode(verdict).decode()]
    lines = [f"{c.status.replace('_', ' ').upper():9} {c.name}: {c.sentence}" for c in verdict.criteria]
    return reaches_level(verdict.status, fail_on), [*lines, f"Verdict: {verdict.word}"]


def read_verdict(run_dir: RunDir) -> Verdict:
    """Judge the run in a directory, including the runs that it resumed. Raises ConfigError if there is none."""
    config = run_dir.read_config()
    return verdict_of(config, read_history(run_dir), recorded_end(run_dir, config.watch))
