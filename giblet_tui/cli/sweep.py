"""`giblet sweep`: the runs of a sweep as one table."""

from __future__ import annotations

import time
from typing import Annotated

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.console import columns, print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument
from giblet_tui.inventory import nodes
from giblet_tui.monitor import find_run
from giblet_tui.reporting import sweep as reporting
from giblet_tui.reporting.formatting import node_lines


@command(app, "sweep", "giblet sweep", "giblet sweep demo-grid-1a2b", "giblet sweep @last --json | jq .best")
def sweep(
    name: Annotated[str, Argument(metavar="[SWEEP]", help="Name of a sweep or its beginning.")] = find_run.LAST,
    json: Json = False,
) -> None:
    """Show the runs of a sweep as one table: values, state, losses, validation r, held-out r, verdict; then the best.

    The best run has the highest validation r (without any r: the lowest validation loss). Its held-out r is shown with
    a 95 % interval. Without SWEEP, the newest one.
    """
    fleet = find_run.observe(nodes.known_nodes())
    for line in node_lines(fleet, time.time()):
        print_status(line)
    groups = reporting.sweeps(fleet.runs())
    matches = (
        [full_name for full_name in groups if full_name.startswith(name)] if name != find_run.LAST else list(groups)[:1]
    )
    if len(matches) != 1:
        raise _selection_error(name, matches, list(groups))
    runs = groups[matches[0]]
    if json:
        show_json(reporting.sweep_json(matches[0], runs))
        return
    print_status(f"sweep {matches[0]}")
    print_data("\n".join(reporting.sweep_lines(runs, columns())))


def _selection_error(name: str, matches: list[str], all_names: list[str]) -> ConfigError:
    """Return the error for a text that names no sweep or several."""
    if matches:
        return ConfigError(f"{len(matches)} sweeps begin with {name!r}; write more of one:", "\n  ".join(matches))
    if name == find_run.LAST:
        remedy = "Start one: giblet launch NODE CONFIG --grid learning_rate=1e-4,3e-4"
        return ConfigError("There is no sweep yet.", remedy)
    return ConfigError(
        f"No sweep begins with {name!r}{nearest(name, all_names) or '.'}", "`giblet ps -a` lists every run."
    )
