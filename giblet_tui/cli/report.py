"""`giblet report`: a report of one run, in Markdown or as an HTML page, or of all recent runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.run_dir import replace_file
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import check_parent, print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Option
from giblet_tui.cli.runs import find, print_unreadable
from giblet_tui.cli.since import moment
from giblet_tui.inventory import configs, nodes
from giblet_tui.monitor import find_run
from giblet_tui.reporting import SCHEMA, markdown
from giblet_tui.reporting.formatting import node_lines
from giblet_tui.reporting.markdown import report_since
from giblet_tui.results.report_page import fetch_page


@command(
    app,
    "report",
    "giblet report @last",
    "giblet report @last > notebook/run.md",
    "giblet report @last --html",
    "giblet report @last --html --out notebook/run.html",
    "giblet report --since 24h",
    "giblet report --since 2026-11-20 > notebook/week.md",
)
def report(
    name: Annotated[
        str | None, Argument(metavar="[RUN]", help="A run; or use --since.", autocompletion=run_ids)
    ] = None,
    since: Annotated[
        str | None,
        Option(metavar="TIME", help="All runs since 24h or 7d ago, or since a day such as 2026-11-20."),
    ] = None,
    html: Annotated[
        bool, Option("--html", help="Write the results as one HTML page: maps, curves, lesions, clip, methods.")
    ] = False,
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="FILE", help="File of the page; default: ./<run id>.html.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a report in Markdown: events, verdict, problems, restarts, best checkpoint, cost.

    It contains no name of a person or participant and no path. With --since: the table of all runs, then each run.

    With --html: the page that a run writes when it has finished. It needs no other file and no network. Without one,
    the best checkpoint is evaluated first, as `giblet evaluate` does.
    """
    if out is not None and not html:
        raise ConfigError("--out is given without --html.", "giblet report RUN --html --out FILE")
    if html:
        if name is None or since is not None:
            raise ConfigError("--html needs one RUN.", "giblet report @last --html")
        _write_page(name, out, json)
        return
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


def _write_page(name: str, out: Path | None, json: bool) -> None:
    """Write the page of a run and print its path."""
    node, run_id = find_run.locate(name, print_status, all_users=True)
    path = out.expanduser() if out is not None else Path(f"{run_id}.html")
    check_parent(path)
    run, facts = find_run.fresh_with_node(node, run_id)
    page = fetch_page(run, facts, node, print_status)
    try:
        replace_file(path, page)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Name another file.") from None
    if json:
        show_json({"schema": SCHEMA, "run_id": run_id, "path": str(path), "bytes": len(page)})
    else:
        print_data(str(path))


def _since(text: str, now: float) -> str:
    since = moment(text, now)
    fleet = find_run.observe(nodes.known_nodes())
    for line in node_lines(fleet, now):
        print_status(line)
    return report_since(fleet.runs(), configs.ladder().names, since, now)
