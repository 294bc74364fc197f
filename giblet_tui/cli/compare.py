"""`giblet compare`: compare runs."""

from __future__ import annotations

from typing import Annotated

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import print_data, show_json
from giblet_tui.cli.parameters import Argument
from giblet_tui.cli.runs import find
from giblet_tui.reporting import compare as side_by_side

Runs = Annotated[
    list[str],
    Argument(metavar="RUN...", help="The run to compare with, then those to judge.", autocompletion=run_ids),
]


@command(
    app,
    "compare",
    "giblet compare demo-20270115 @last",
    "giblet compare pilot demo @last",
    "giblet compare pilot @last --json | jq .changes",
)
def compare(names: Runs, json: Json = False) -> None:
    """Compare runs: changed keys, losses at the last common epoch, and which losses cannot be compared.

    More than two runs become the columns of a table. They may be on different nodes. In the dashboard: space marks a
    run, c compares.
    """
    if len(names) < 2:
        raise ConfigError("One run is named.", "Name two or more; giblet ps -a lists them.")
    runs = [find(name) for name in names]
    run_ids = [run.run.run_id for run in runs]
    if len(set(run_ids)) < len(runs):
        twice = next(run_id for run_id in run_ids if run_ids.count(run_id) > 1)
        raise ConfigError(f"Two names are the run {twice}.", "Name each run once; giblet ps -a lists them.")
    if len(runs) > 2:
        if json:
            show_json(side_by_side.many_json(runs))
        else:
            print_data("\n".join(side_by_side.many_lines(runs)))
        return
    comparison = side_by_side.compare(*runs)
    if json:
        show_json(side_by_side.compare_json(comparison))
    else:
        print_data("\n".join(side_by_side.compare_lines(comparison)))
