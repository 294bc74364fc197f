"""`giblet ps`, `status` and `verdict`: what runs there are, where one stands, and whether it met its criteria."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from giblet_train.diagnosis.criteria import reaches_level
from giblet_train.schema.errors import ConfigError, DataError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.completion import node_names, run_ids
from giblet_tui.cli.console import columns, next_commands, print_data, print_status, show_json, style
from giblet_tui.cli.follow_output import follow_and_print
from giblet_tui.errors import Unreachable
from giblet_tui.inventory import nodes
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.snapshots import Fleet, RunSnapshot
from giblet_tui.monitor.snapshots import Fleet as Nodes
from giblet_tui.reporting import formatting
from giblet_tui.reporting.formatting import node_lines, runs_table, status_lines
from giblet_tui.reporting.json_output import SCHEMA, fleet_json, run_json, verdict_json
from giblet_tui.reporting.progress_lines import ProgressPrinter
from giblet_tui.reporting.unreadable_files import damaged_record_message, read_errors
from giblet_tui.results.pull import run_folder

RECENT_S = 86_400.0
_COLOURS = {
    "running": "green",
    "waiting": "blue",
    "starting": "blue",
    "finished": "green",
    "stalled": "yellow",
    "unknown": "yellow",
    "stopped": "dim",
    "failed": "red",
    "died": "red",
}

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The beginning of a run's id, or @last.", autocompletion=run_ids),
]
NodeNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]...", help="All nodes if none.", autocompletion=node_names)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Cached = Annotated[bool, typer.Option("--cached", help="What was last seen; no connection is opened.")]


@command(app, "ps", "giblet ps", "giblet ps -a tensor01", "giblet ps --json | jq '.runs[].verdict'")
def ps(
    names: NodeNames = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="Also runs that ended over a day ago.")] = False,
    json: Json = False,
    cached: Cached = False,
) -> None:
    """List runs: state with its evidence, losses, rate, verdict, time left.

    Of runs that ended, figures and verdict are read for a node's 20 newest; `giblet status RUN` tells them of any.
    On a narrow terminal a run keeps to one line: rate, fMRI loss, time left and epoch go first.

    Exit code 3 when none of the nodes could be reached.
    """
    now = time.time()
    fleet = _fleet(names, cached)
    runs = [run for run in fleet.runs() if every or run.health.live or now - (run.health.since or now) < RECENT_S]
    if json:
        show_json(fleet_json(fleet, runs, now))
    elif runs:
        head, *lines = runs_table(runs, columns()).split("\n")
        print_data(
            "\n".join([head, *(style(line, _COLOURS[run.health.state]) for line, run in zip(lines, runs, strict=True))])
        )
    else:
        print_status(
            "No runs. Start one: giblet launch NODE CONFIG, or giblet demo" + ("" if every else "; older ones: ps -a")
        )
    for line in node_lines(fleet, now):
        print_status(line)
    if not cached and fleet.nodes and not any(node.link == "live" for node in fleet.nodes):
        raise typer.Exit(Unreachable.exit_code)


@command(app, "status", "giblet status @last", "giblet status demo --json", "giblet status @last --watch")
def status(
    name: RunName,
    json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Then a plain line for all that is new, to its end: for screen readers.")
    ] = False,
) -> None:
    """Say where one run stands: its state with evidence, losses, rate, verdict. Exit code 1 if it failed or died."""
    if json and watch:
        raise ConfigError("--watch tells in words, --json once.", "giblet ps --json, as often as you like")
    run, facts = find_run.fresh_with_node(*find_run.locate(name, print_status))
    say_unread(run)
    if json:
        show_json({"schema": SCHEMA, "run": run_json(run)})
    else:
        head, *lines = status_lines(run, time.time() + facts.clock_skew_s, facts.disk_free_gib)
        print_data("\n".join([style(head, _COLOURS[run.health.state]), *lines]))
        print_status(next_commands(run.run.run_id, live=run.health.live))
    if watch and run.health.live:
        _tell_on(run)
    if run.health.state in ("failed", "died"):
        raise typer.Exit(RunFailed.exit_code)


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
        typer.Option(help="Exit code 1 from this on: at_risk also while it goes on badly, on_track unless all passed."),
    ] = "fail",
) -> None:
    """Hold a run against its own criteria, with the arithmetic: the pace needed, the pace seen, the last chance.

    Exit code 1 when one has failed.
    """
    run = find(name)
    judged = formatting.verdict(run)
    if run.config is None and (unread := unread_of(run)[0]):
        raise unread[0]
    say_unread(run)
    if run.run.adopted is not None and judged is None:
        raise DataError(
            f"{run.run.run_id} was adopted, without a configuration: what it was to reach is not known.",
            f"giblet why {run.run.run_id}",
        )
    if judged is None:
        raise DataError(
            f"{run.run.run_id} has no criteria that it could be held against.",
            "Name some under `criteria:` in its configuration, as configs/demo.yaml does.",
        )
    if json:
        show_json(verdict_json(run.run.run_id, judged))
    else:
        print_data("\n".join(formatting.verdict_lines(judged)))
    if reaches_level(judged.status, fail_on):
        raise typer.Exit(RunFailed.exit_code)


def _tell_on(run: RunSnapshot) -> None:
    """Tell what is new from here on until the run has ended; the verb ends with its result."""
    narrator = ProgressPrinter()
    narrator.new_lines(run)
    raise typer.Exit(follow_and_print(nodes.resolve(run.run.node), run.run.run_id, narrator))


def find(name: str) -> RunSnapshot:
    """The run that a name means, as it is now."""
    node, run_id = find_run.locate(name, print_status)
    return find_run.fetch_run(node, run_id)


def unread_of(run: RunSnapshot) -> tuple[list[DataError], list[str]]:
    """An error for each file of the run that could not be read, and what is to be said of damaged records."""
    node = nodes.resolve(run.run.node)
    folder = f"{node.name}:{run_folder(node, run.run.run_id)}"
    return read_errors(run, folder), damaged_record_message(run.malformed_lines, len(run.metrics), folder)


def say_unread(run: RunSnapshot) -> None:
    """Tell of all that could not be read of a run."""
    errors, notes = unread_of(run)
    for line in (*map(str, errors), *notes):
        print_status(line)


def _fleet(names: Sequence[str] | None, cached: bool) -> Fleet:
    which = [nodes.resolve(name) for name in names] if names else list(nodes.known_nodes())
    if cached:
        wanted = {node.name for node in which}
        return Nodes(nodes=tuple(node for node in cache.load().nodes if node.node in wanted))

    return find_run.observe(which)
