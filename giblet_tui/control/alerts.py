"""Answering a run's alerts on its node, for the verb and the dashboard alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from giblet_train.diagnosis.alerts import active_alerts
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import Alert
from giblet_tui.connection.base import Connection
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import RunSnapshot

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def select_alerts(run: RunSnapshot, names: Sequence[str]) -> list[Alert]:
    """The standing alerts of those names; all of them for no name. Raises ConfigError for one that does not stand."""
    standing = active_alerts(run.alerts)
    known = [alert.name for alert in standing]
    unknown = [name for name in names if name not in known]
    if unknown:
        stand = f"Standing: {', '.join(known)}." if known else "No alert stands."
        raise ConfigError(f"{run.run.run_id} has no alert {unknown[0]}{nearest(unknown[0], known) or '.'}", stand)
    return [alert for alert in standing if not names or alert.name in names]


def answer(
    node: Node, connection: Connection, run_id: str, alerts: Sequence[Alert], snooze_s: float | None, by: str
) -> None:
    """Acknowledge alerts, or snooze them for snooze_s seconds (0 wakes them). Raises the node's refusal."""
    said = [{"alert": alert.seq, "name": alert.name} for alert in alerts]
    connection.call(
        "answer", {"workdir": node.workdir, "run_id": run_id, "alerts": said, "snooze_s": snooze_s, "by": by}
    )


def parse_duration(text: str) -> float:
    """`90s`, `30m`, `2h`, `1d`, or 0 as seconds. Raises ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if text.strip() == "0":
        return 0.0
    if found is None:
        raise ConfigError(f"{text!r} is no length of time.", "For example: 30m, 2h or 1d; 0 wakes what was snoozed.")
    return float(found[1]) * UNITS[found[2]]
