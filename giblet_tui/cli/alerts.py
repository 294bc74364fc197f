"""`giblet alerts`: show, acknowledge and snooze the alerts of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

from giblet_train.schema.errors import ConfigError
from giblet_train.schema.health import duration
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Option
from giblet_tui.connection.connect import connect
from giblet_tui.control import alerts as answers
from giblet_tui.inventory.nodes import Node
from giblet_tui.inventory.user import current_user
from giblet_tui.monitor import find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import alert_lines
from giblet_tui.reporting.json_output import alerts_json


@command(
    app, "alerts", "giblet alerts @last", "giblet alerts @last --ack", "giblet alerts @last plateau --snooze 8h",
    "giblet alerts @last --snooze 0",
)  # fmt: skip
def alerts(
    name: RunName,
    names: Annotated[list[str] | None, Argument(metavar="[ALERT]...", help="Alerts to answer; default: all.")] = None,
    ack: Annotated[bool, Option("--ack", help="Acknowledge: silent until raised again.")] = False,
    snooze: Annotated[str | None, Option(metavar="TIME", help="Silent for 30m, 8h or 2d; 0 ends the snooze.")] = None,
    json: Json = False,
) -> None:
    """Show the open alerts of a run, or acknowledge or snooze them for everyone who watches the run.

    A snoozed alert does not call `watch.notify`. If it is still open when the time is over, it calls again.
    """
    if ack and snooze is not None:
        raise ConfigError(
            "--ack and --snooze exclude each other.",
            "--ack lasts until the alert is raised again, --snooze for a time.",
        )
    snooze_s = None if snooze is None else answers.parse_duration(snooze)
    if names and not ack and snooze is None:
        raise ConfigError(
            "Alerts are named without an answer to them.",
            "Add --ack or --snooze 8h; without names, all alerts are shown.",
        )
    is_answer = ack or snooze is not None
    node, run_id = find_run.locate(name, print_status, all_users=not is_answer)
    run, facts = find_run.fresh_with_node(node, run_id)
    if is_answer:
        _answer(node, run, names or (), snooze_s)
        run, facts = find_run.fresh_with_node(node, run_id)
    now = time.time() + facts.clock_skew_s  # alerts and answers carry the time of the node
    if json:
        show_json(alerts_json(run, now))
    else:
        print_data("\n".join(alert_lines(run, now)))


def answer_all(run_id: str, snooze_s: float | None) -> str:
    """Acknowledge or snooze every open alert of a run; return a sentence that says so. Raises GibletError."""
    node, whole = find_run.locate(run_id, lambda _: None)
    count = _answer(node, find_run.fetch_run(node, whole), (), snooze_s)
    action = "acknowledged" if snooze_s is None else f"snoozed for {duration(snooze_s)}"
    return f"{count} alert{'' if count == 1 else 's'} {action}, for everyone who watches this run"


def _answer(node: Node, run: RunSnapshot, names: Sequence[str], snooze_s: float | None) -> int:
    """Answer the open alerts of these names (default: all); return their number."""
    which = answers.select_alerts(run, names)
    if which:
        with connect(node) as connection:
            answers.answer(node, connection, run.run.run_id, which, snooze_s, current_user())
    return len(which)
