"""`giblet status` and `verdict`: the state of one run, and whether it met its criteria."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from giblet_train.diagnosis.criteria import reaches_level
from giblet_train.schema.errors import ConfigError, DataError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import STATE_COLOURS, next_commands, print_data, print_status, show_json, style
from giblet_tui.cli.follow_output import follow_and_print
from giblet_tui.cli.parameters import Exit, Option
from giblet_tui.inventory import nodes
from giblet_tui.monitor import find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA, formatting
from giblet_tui.reporting.json_output import run_json, verdict_json
from giblet_tui.reporting.progress_lines import ProgressPrinter
from giblet_tui.reporting.unreadable_files import damaged_record_message, read_errors
from giblet_tui.results.pull import run_folder


@command(app, "status", "giblet status @last", "giblet status demo --json", "giblet status @last --watch")
def status(
    name: RunName,
    json: Json = False,
    watch: Annotated[
        bool, Option("--watch", help="Then print a line per change until the run ends; suits screen readers.")
    ] = False,
) -> None:
    """Show the state of one run with its evidence, losses, learning rate and verdict.

    Exit code 1 if it failed or died.
    """
    if json and watch:
        raise ConfigError("--watch prints text and --json prints once.", "Repeat giblet status RUN --json instead.")
    run, facts = find_run.fresh_with_node(*find_run.locate(name, print_status, all_users=True))
    print_unreadable(run)
    if json:
        show_json({"schema": SCHEMA, "run": run_json(run)})
    else:
        head, *lines = formatting.status_lines(run, time.time() + facts.clock_skew_s, facts.disk_free_gib)
        print_data("\n".join([style(head, STATE_COLOURS[run.health.state]), *lines]))
        print_status(next_commands(run.run.run_id, live=run.health.live))
    if watch and run.health.live:
        _follow(run)
    if run.health.state in ("failed", "died"):
        raise Exit(RunFailed.exit_code)


@command(
    app,
    "verdict",
    "giblet verdict @last",
    "giblet verdict demo --json | jq '.criteria[] | {name, pace_needed, pace_seen, deadline_epoch}'",
    "giblet verdict @last --fail-on at_risk || giblet why @last",
)
def verdict(
    name: RunName,
    json: Json = False,
    fail_on: Annotated[
        Literal["fail", "at_risk", "on_track"],
        Option(help="Exit with 1 at this verdict or worse; on_track: unless every criterion has passed."),
    ] = "fail",
) -> None:
    """Compare a run with the success criteria of its configuration: rate needed, rate observed, latest possible epoch.

    Exit code 1 if a criterion failed.
    """
    run = find(name)
    run_verdict = formatting.verdict(run)
    if run.config is None and (unread := unreadable_of(run)[0]):
        raise unread[0]
    print_unreadable(run)
    if run.run.foreign and run_verdict is None:
        raise DataError(
            f"{run.run.run_id} has no criteria to be compared with, because {run.run.foreign}.",
            f"giblet why {run.run.run_id}",
        )
    if run_verdict is None:
        raise DataError(
            f"{run.run.run_id} has no success criteria.",
            "Add some under `criteria:` in its configuration, as configs/demo.yaml does.",
        )
    if json:
        show_json(verdict_json(run.run.run_id, run_verdict))
    else:
        print_data("\n".join(formatting.verdict_lines(run_verdict, run.health)))
    if reaches_level(run_verdict.status, fail_on):
        raise Exit(RunFailed.exit_code)


def _follow(run: RunSnapshot) -> None:
    """Print changes until the run has ended; exit with its result."""
    progress = ProgressPrinter()
    progress.new_lines(run)
    raise Exit(follow_and_print(nodes.resolve(run.run.node), run.run.run_id, progress))


def find(name: str) -> RunSnapshot:
    """Return the current snapshot of the run of that name."""
    node, run_id = find_run.locate(name, print_status, all_users=True)
    return find_run.fetch_run(node, run_id)


def unreadable_of(run: RunSnapshot) -> tuple[list[DataError], list[str]]:
    """Return an error for each unreadable file of the run, and messages about damaged records."""
    node = nodes.resolve(run.run.node)
    folder = f"{node.name}:{run_folder(node, run.run.run_id)}"
    return read_errors(run, folder), damaged_record_message(run.malformed_lines, len(run.metrics), folder)


def print_unreadable(run: RunSnapshot) -> None:
    """Print what could not be read of a run."""
    errors, notes = unreadable_of(run)
    for line in (*map(str, errors), *notes):
        print_status(line)
