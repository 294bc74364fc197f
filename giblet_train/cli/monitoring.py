"""Commands that judge a run from its records; they need no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.cli.arguments import AsJson, report_progress
from giblet_train.monitoring.verdict import verdict_lines
from giblet_train.monitoring.watcher import watch as watch_run
from giblet_train.schema.errors import FAILED


def verdict(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: AsJson = False,
    fail_on: Annotated[
        Literal["fail", "at_risk", "on_track"], typer.Option(help="The mildest status that ends with exit code 1.")
    ] = "fail",
) -> None:
    """Check a run's records against its criteria. Exit 1 if one of them has failed."""
    is_failure, lines = verdict_lines(run_dir, as_json=as_json, fail_on=fail_on)
    print("\n".join(lines))
    if is_failure:
        sys.exit(FAILED)


def watch(run_dir: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Diagnose a run while it trains, write alerts.jsonl, call watch.notify. Started by the run's supervisor."""
    watch_run(run_dir, report_progress)
