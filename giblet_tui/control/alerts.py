"""Acknowledge or snooze a run's alerts on its node; used by `giblet alerts` and the dashboard."""

from __future__ import annotations

import re
from collections.abc import Sequence

from giblet_train.diagnosis.alert_responses import active_alerts
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Alert
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import AlertReply
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import RunSnapshot

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def select_alerts(run: RunSnapshot, names: Sequence[str]) -> list[Alert]:
    """Return the active alerts of these names; all if no name is given. Raises ConfigError for a name without one."""
    active = active_alerts(run.alerts)
    names_active = [alert.name for alert in active]
    unknown = [name for name in names if name not in names_active]
    if unknown:
        remedy = f"Active: {', '.join(names_active)}." if names_active else "No alert is active."
        raise ConfigError(
            f"{run.run.run_id} has no alert {unknown[0]}{nearest(unknown[0], names_active) or '.'}", remedy
        )
    return [alert for alert in active if not names or alert.name in names]


def answer(
    node: Node, connection: Connection, run_id: str, alerts: Sequence[Alert], snooze_s: float | None, by: str
) -> None:
    """Acknowledge alerts, or snooze them for snooze_s seconds (0 wakes them). Raises the node's refusal."""
    answers = [{"alert": alert.seq, "name": alert.name} for alert in alerts]
    arguments = {"workdir": node.workdir, "run_id": run_id, "alerts": answers, "snooze_s": snooze_s, "by": by}
    connection.call("answer", arguments, AlertReply)


def parse_duration(text: str) -> float:
    """Return `90s`, `30m`, `2h`, `1d` or `0` in seconds. Raises ConfigError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if text.strip() == "0":
        return 0.0
    if match is None:
        raise ConfigError(f"{text!r} is not a length of time.", "For example: 30m, 2h or 1d; 0 ends a snooze.")
    return float(match[1]) * UNITS[match[2]]
