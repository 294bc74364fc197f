"""`giblet alerts`: what the watcher beside a run has raised, and what people answer."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.runs import Json, RunName
from giblet_tui.cli.speech import person, say, show, show_json


@verb(
    app, "alerts", "giblet alerts @last", "giblet alerts @last --ack", "giblet alerts @last plateau --snooze 8h",
    "giblet alerts @last --snooze 0",
)  # fmt: skip
def alerts(
    name: RunName,
    names: Annotated[list[str] | None, typer.Argument(metavar="[ALERT]...", help="Answer these; all if none.")] = None,
    ack: Annotated[bool, typer.Option("--ack", help="Acknowledge: silent until the same is raised anew.")] = False,
    snooze: Annotated[
        str | None, typer.Option(metavar="TIME", help="Silent for 30m, 8h, 2d, whatever is raised; 0 wakes it.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the alerts that stand, or answer them: the answer is kept beside the run, for everyone who watches it.

    A snoozed alert does not call `watch.notify`; when its time is over and it still stands, it calls again.
    """
    from giblet_train.contract.errors import ConfigError
    from giblet_tui import alerts as answers
    from giblet_tui import lookup
    from giblet_tui.present import alert_lines
    from giblet_tui.remote.connection import connect
    from giblet_tui.shapes import alerts_json

    if ack and snooze is not None:
        raise ConfigError("--ack or --snooze, not both.", "--ack lasts until the same is raised anew, --snooze a time.")
    snooze_s = None if snooze is None else answers.seconds(snooze)
    if names and not ack and snooze is None:
        raise ConfigError("What about these alerts?", "Add --ack, or --snooze 8h; without names, all are shown.")
    node, run_id = lookup.locate(name, say)
    run = lookup.fresh(node, run_id)
    if ack or snooze is not None:
        which = answers.chosen(run, names or ())
        if which:
            with connect(node) as connection:
                answers.answer(node, connection, run_id, which, snooze_s, person())
        run = lookup.fresh(node, run_id)
    now = time.time()
    if json:
        show_json(alerts_json(run, now))
    else:
        show("\n".join(alert_lines(run, now)))
