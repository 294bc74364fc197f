"""`giblet wait`: wait until runs have ended."""

from __future__ import annotations

import time
from typing import Annotated

from giblet_train.schema.errors import FAILED, INTERRUPTED
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import print_status, show_json
from giblet_tui.cli.follow_output import print_result, result_code
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.monitor import find_run
from giblet_tui.monitor.follow import follow
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.json_output import run_json


@command(
    app,
    "wait",
    "giblet wait @last && giblet evaluate @last",
    "giblet wait demo-20261122 demo-20261123",
    "giblet wait @last --timeout 3600",
)
def wait(
    names: Annotated[list[str], Argument(metavar="RUN...", help="Runs to wait for.", autocompletion=run_ids)],
    timeout: Annotated[
        float | None, Option(metavar="SECONDS", min=0.0, help="Give up after this time; default: never.")
    ] = None,
    json: Json = False,
) -> None:
    """Wait until all these runs have ended, through lost connections; print how each ended and its verdict.

    Exit code 0 if every run ended well and met its criteria, 1 if not, 124 after --timeout. Ctrl-C stops no run.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    runs = find_run.locate_all(names, print_status, all_users=True)
    ended_runs = []
    try:
        for node, run_id in runs:
            *_, last = follow(node, run_id, deadline)
            ended_runs.append(last.run)
            if last.run and not json:
                print_result(last.run)
    except KeyboardInterrupt:
        print_status("\nThe runs continue.")
        raise Exit(INTERRUPTED) from None
    if json:
        show_json({"schema": SCHEMA, "runs": [run_json(run) for run in ended_runs if run]})
    raise Exit(max(result_code(run) if run else FAILED for run in ended_runs))
