"""`giblet report`: a report of one run or of all recent runs, in Markdown."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.cli.runs import find, print_unreadable
from giblet_tui.control.alerts import parse_duration
from giblet_tui.inventory import configs, nodes
from giblet_tui.monitor import find_run
from giblet_tui.reporting import markdown
from giblet_tui.reporting.formatting import node_lines
from giblet_tui.reporting.json_output import SCHEMA
from giblet_tui.reporting.markdown import report_since


@command(
    app,
    "report",
    "giblet report @last",
    "giblet report @last > notebook/run.md",
    "giblet report --since 24h",
    "giblet report --since 2026-11-20 > notebook/week.md",
)
def report(
    name: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run; or use --since.", autocompletion=run_ids)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="All runs since 24h or 7d ago, or since a day such as 2026-11-20."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a report in Markdown: events, verdict, problems, restarts, best checkpoint, cost.

    It contains no name of a person or participant and no path. With --since: the table of all runs, then each run.
    """
    if (name is None) == (since is None):
        raise ConfigError(
            "Neither or both of RUN and --since are given.", "giblet report @last, or giblet report --since 24h"
        )
    now = time.time()
    if name is not None:
        run = find(name)
        print_unreadable(run)
        run_id: str | None = run.run.run_id
        text = markdown.report(run, now)
    else:
        run_id, text = None, _since(since or "", now)
    if json:
        show_json({"schema": SCHEMA, "run_id": run_id, "markdown": text})
    else:
        print_data(text.rstrip("\n"))


def _since(text: str, now: float) -> str:
    since = moment(text, now)
    fleet = find_run.observe(nodes.known_nodes())
    for line in node_lines(fleet, now):
        print_status(line)
    return report_since(fleet.runs(), configs.ladder().names, since, now)


def moment(text: str, now: float) -> float:
    """Return the time that is `24h` or `7d` before now, or the start of a day. Raises ConfigError."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%d"))
    except ValueError:
        pass
    try:
        return now - parse_duration(text)
    except ConfigError:
        raise ConfigError(f"--since {text} is neither a duration nor a day.", "Use 24h, 7d, or 2026-11-20.") from None
