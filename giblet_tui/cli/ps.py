"""`giblet ps`: list runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, get_args

from giblet_train.schema.config import nearest
from giblet_train.schema.errors import INTERRUPTED, ConfigError
from giblet_train.schema.health import State
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, OptionalNodes
from giblet_tui.cli.console import STATE_COLOURS, columns, print_data, print_status, show_json, style
from giblet_tui.cli.parameters import Exit, Option
from giblet_tui.errors import Unreachable
from giblet_tui.inventory import nodes
from giblet_tui.monitor import cache
from giblet_tui.monitor.snapshots import Fleet, own_runs
from giblet_tui.reporting.formatting import gpu_lines, node_lines, runs_table
from giblet_tui.reporting.json_output import fleet_json

WATCH_S = 2.0
"""Pause between two lists of --watch."""
STATES: list[str] = list(get_args(State))
NO_RUNS = "No runs. Start one: giblet launch NODE CONFIG, or giblet demo"
RECENT_S = 86_400.0
"""Runs that ended longer ago are listed only with --all."""


@command(
    app,
    "ps",
    "giblet ps",
    "giblet ps -a tensor01",
    "giblet ps --watch",
    "giblet ps -a --state failed --state died",
    "giblet ps --all-users",
    "giblet ps --json | jq '.runs[].verdict'",
)
def ps(
    names: OptionalNodes = None,
    every: Annotated[bool, Option("-a", "--all", help="Also list runs that ended over a day ago.")] = False,
    json: Json = False,
    all_users: Annotated[
        bool, Option("--all-users", help="Also list the runs of others in the group `lab:` of each node.")
    ] = False,
    cached: Annotated[bool, Option("--cached", help="List what was last seen; open no connection.")] = False,
    watch: Annotated[bool, Option("--watch", help="Repeat every 2 s until Ctrl-C.")] = False,
    states: Annotated[
        list[str] | None, Option("--state", metavar="STATE", help="List only runs in this state; repeatable.")
    ] = None,
) -> None:
    """List runs with state, losses, learning rate, verdict and time left.

    Losses and verdict of ended runs are read for the 20 newest of each node; for others use `giblet status RUN`.
    On a narrow terminal each run keeps to one line: learning rate, fMRI loss, time left and epoch are dropped first.

    Exit code 3 if no node could be reached.
    """
    for state in states or ():
        if state not in STATES:
            raise ConfigError(
                f"There is no state {state!r}{nearest(state, STATES) or '.'}", f"One of: {', '.join(STATES)}"
            )
    options = {"every": every, "all_users": all_users, "json": json, "cached": cached}
    fleet = _list_runs(names, **options, states=states or (), clear=watch)
    try:
        while watch:
            time.sleep(WATCH_S)
            fleet = _list_runs(names, **options, states=states or (), clear=True)
    except KeyboardInterrupt:
        raise Exit(INTERRUPTED) from None
    if not cached and fleet.nodes and not any(node.link == "live" for node in fleet.nodes):
        raise Exit(Unreachable.exit_code)


def _list_runs(
    names: Sequence[str] | None,
    *,
    every: bool,
    all_users: bool,
    json: bool,
    cached: bool,
    states: Sequence[str],
    clear: bool,
) -> Fleet:
    """Print the runs once; return what was seen. clear: empty the screen of a terminal first."""
    fleet = _fleet(names, cached, all_users)
    now = time.time()
    in_view = fleet.runs() if all_users else own_runs(fleet.runs())
    runs = [run for run in in_view if every or run.health.live or now - (run.health.since or now) < RECENT_S]
    runs = [run for run in runs if not states or run.health.state in states]
    if clear and sys.stdout.isatty():
        print("\x1b[H\x1b[2J", end="")
    if json:
        show_json(fleet_json(fleet, runs, now))
    elif runs:
        head, *lines = runs_table(runs, columns()).split("\n")
        rows = [style(line, STATE_COLOURS[run.health.state]) for line, run in zip(lines, runs, strict=True)]
        print_data("\n".join([head, *rows]))
    else:
        older = "" if every else "; list older runs: giblet ps -a"
        words = f"No run is {' or '.join(states)}" if states else NO_RUNS
        print_status(f"{words}{older}")
    for line in (*node_lines(fleet, now), *gpu_lines(fleet)):
        print_status(line)
    return fleet


def _fleet(names: Sequence[str] | None, cached: bool, all_users: bool) -> Fleet:
    """Return the nodes of these names (default: all) with their runs, from the cache or from the nodes themselves."""
    watched_nodes = [nodes.resolve(name) for name in names] if names else list(nodes.known_nodes())
    if not cached:
        from giblet_tui.monitor import find_run  # --cached opens no connection, and must not pay for one

        return find_run.observe(watched_nodes, all_users=all_users)
    node_names = {node.name for node in watched_nodes}
    return Fleet(nodes=tuple(node for node in cache.load().nodes if node.node in node_names))
