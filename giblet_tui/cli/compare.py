"""`giblet compare`: two runs side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import print_data, show_json
from giblet_tui.cli.runs import find
from giblet_tui.reporting import compare as side_by_side

OldRun = Annotated[str, typer.Argument(metavar="OLD", help="The run to start from.", autocompletion=run_ids)]
NewRun = Annotated[str, typer.Argument(metavar="NEW", help="The run to judge.", autocompletion=run_ids)]


@command(app, "compare", "giblet compare demo-20270115 @last", "giblet compare pilot @last --json | jq .changes")
def compare(old: OldRun, new: NewRun, json: Json = False) -> None:
    """Hold two runs side by side: what was changed, losses at the last common epoch, and which may not be compared.

    The runs may lie on different nodes. In the dashboard: space marks a run, c compares.
    """
    seen = side_by_side.compare(find(old), find(new))
    if json:
        show_json(side_by_side.compare_json(seen))
    else:
        print_data("\n".join(side_by_side.compare_lines(seen)))
