"""`giblet report`: a run told in Markdown, fit to be shared."""

from __future__ import annotations

import time

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.runs import Json, RunName, find
from giblet_tui.cli.speech import show, show_json


@verb(app, "report", "giblet report @last", "giblet report @last > notebook/run.md")
def report(name: RunName, json: Json = False) -> None:
    """Tell a run in Markdown: what happened, verdict, what is wrong, restarts, best checkpoint, cost in GPU-hours.

    It names no person, no participant and no path.
    """
    from giblet_tui import report as telling
    from giblet_tui.shapes import SCHEMA

    run = find(name)
    text = telling.report(run, time.time())
    if json:
        show_json({"schema": SCHEMA, "run_id": run.run.run_id, "markdown": text})
    else:
        show(text.rstrip("\n"))
