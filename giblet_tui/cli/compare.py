"""`giblet compare`: compare two runs."""

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

OldRun = Annotated[str, Argument(metavar="OLD", help="The run to compare with.", autocompletion=run_ids)]
NewRun = Annotated[str, Argument(metavar="NEW", help="The run to judge.", autocompletion=run_ids)]


@command(app, "compare", "giblet compare demo-20270115 @last", "giblet compare pilot @last --json | jq .changes")
def compare(old: OldRun, new: NewRun, json: Json = False) -> None:
    """Compare two runs: changed keys, losses at the last common epoch, and which losses cannot be compared.

    The runs may be on different nodes. In the dashboard: space marks a run, c compares.
    """
    old_run, new_run = find(old), find(new)
    if old_run.run.run_id == new_run.run.run_id:
        raise ConfigError(f"Both names are the run {new_run.run.run_id}.", "Name two runs; giblet ps -a lists them.")
    comparison = side_by_side.compare(old_run, new_run)
    if json:
        show_json(side_by_side.compare_json(comparison))
    else:
        print_data("\n".join(side_by_side.compare_lines(comparison)))
