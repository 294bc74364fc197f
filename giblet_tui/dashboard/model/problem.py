"""The worst current problem of a run, with its remedy, for the bar at the top. Pure."""

from __future__ import annotations

from typing import NamedTuple

from giblet_train.schema.health import Health, duration
from giblet_train.schema.records import Alert
from giblet_tui.dashboard.model.run_status import health_now, open_alerts
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles

ENDED_BADLY = ("failed", "died")
ALERT_KEYS = "A seen  Z snooze  9 all"
WHY_KEYS = "W why"


class Problem(NamedTuple):
    """What is wrong, what to do about it, and the keys for that."""

    glyph: str
    sentence: str
    remedy: str
    keys: str
    style: str


def problem_of(view: RunView, now: float) -> Problem | None:
    """Return the newest alert that nobody has answered, or else how the run failed or stalled; None if all is well."""
    health = health_now(view.run, view.node, now)
    alerts = open_alerts(view.run, view.node, now) if health.live else []
    if alerts:
        more = f"  and {len(alerts) - 1} more" if len(alerts) > 1 else ""
        sentence, remedy = current_sentence(alerts[0], view, health, now)
        style = styles.LEVEL_STYLES[alerts[0].level]
        return Problem("▲", f"{alerts[0].name}: {sentence}{more}", remedy, ALERT_KEYS, style)
    if health.state in (*ENDED_BADLY, "stalled"):
        style = styles.state_style(health.state)
        remedy = f"giblet why {view.run.run.run_id}"
        return Problem(styles.glyph(health.state), health.sentence, remedy, WHY_KEYS, style)
    return None


def current_sentence(alert: Alert, view: RunView, health: Health, now: float) -> tuple[str, str]:
    """Return the sentence and the remedy of an alert as they are now, not as they were when it was raised.

    Without news, or once the records no longer show the cause, the sentence of the alert is dated.
    """
    cause = view.judgement.causes.get(alert.name)
    if alert.name == "stalled" and health.state == "stalled":
        return health.sentence, cause.action if cause is not None else alert.action
    if cause is not None and health.state != "unknown":
        return cause.sentence, cause.action
    age = duration(max(0.0, now + view.node.facts.clock_skew_s - alert.at))
    return f"{alert.sentence} (raised {age} ago)", alert.action
