"""Which alerts of a run are active, and which of them a person has acknowledged or snoozed. Pure.

It needs no rules, so that listing runs does not import them.
"""

from __future__ import annotations

from collections.abc import Sequence

from giblet_train.schema.records import Alert, AlertResponse


def silenced_by(alert: Alert, answers: Sequence[AlertResponse], now: float) -> AlertResponse | None:
    """Return the response that silences an alert now, if any.

    It is the last response to that name, unless it acknowledged an earlier alert or its snooze has ended. now: seconds
    since 1970 on the node's clock.
    """
    last = next((answer for answer in reversed(answers) if answer.name == alert.name), None)
    if last is None or (last.alert != alert.seq if last.until is None else last.until <= now):
        return None
    return last


def active_alerts(alerts: Sequence[Alert]) -> list[Alert]:
    """Return alerts that were raised and not cleared since, newest first."""
    last = {alert.name: alert for alert in alerts}
    alerts_raised = [alert for alert in last.values() if alert.state == "raised"]
    return sorted(alerts_raised, key=lambda alert: (-alert.at, -alert.seq))


def open_alerts(alerts: Sequence[Alert], answers: Sequence[AlertResponse], now: float) -> list[Alert]:
    """Return active alerts that nobody has acknowledged or snoozed, newest first."""
    return [alert for alert in active_alerts(alerts) if silenced_by(alert, answers, now) is None]
