"""From one diagnosis after another to alerts: raised once a cause stands a while, cleared once it has gone a while; and
what people have answered to them.

Pure: the watcher looks, this says what is new. A cause that is certain needs no second look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from giblet_train.diagnosis.diagnose import Diagnosis
from giblet_train.diagnosis.rules.case import Finding
from giblet_train.diagnosis.rules.registry import RULES
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.records import Alert, AlertResponse

CERTAIN = 0.95
LIKELY = 0.5
"""Below this a cause is thought to follow from another, and raises nothing of its own."""


class AlertState(msgspec.Struct, frozen=True, kw_only=True):
    """What stands. raised: name -> its alert. seen, gone: how many looks in a row a cause was there, or was not.

    n_alerts: how many were ever written, the next one's number.
    """

    raised: Mapping[str, Alert] = {}
    seen: Mapping[str, int] = {}
    gone: Mapping[str, int] = {}
    n_alerts: int = 0


def restore_state(alerts: Sequence[Alert]) -> AlertState:
    """What stands after the alerts written so far: where a watcher that starts anew goes on."""
    last = {alert.name: alert for alert in alerts}
    return AlertState(raised={n: a for n, a in last.items() if a.state == "raised"}, n_alerts=len(alerts))


def update(
    watched: AlertState, diagnosis: Diagnosis, watch: WatchConfig, step: int, at: float, *, last: bool = False
) -> tuple[AlertState, list[Alert]]:
    """One look: what stands now, and the alerts that are new.

    step, at: of the newest record, seconds since 1970. last: no look will follow, so none is waited for.
    """
    causes: dict[str, Finding] = {c.cause: c for c in diagnosis.causes if c.confidence >= LIKELY}
    seen = {name: watched.seen.get(name, 0) + 1 for name in causes}
    gone = {name: 0 if name in causes else watched.gone.get(name, 0) + 1 for name in watched.raised}
    new = [
        _raised(cause, step, at)
        for name, cause in causes.items()
        if name not in watched.raised and (last or seen[name] >= watch.raise_looks or cause.confidence >= CERTAIN)
    ]
    new += [
        msgspec.structs.replace(watched.raised[name], state="cleared", step=step, at=at)
        for name, looks in gone.items()
        if looks >= watch.clear_looks
    ]
    alerts = [msgspec.structs.replace(alert, seq=watched.n_alerts + i) for i, alert in enumerate(new)]
    raised = dict(watched.raised) | {a.name: a for a in alerts}
    return (
        AlertState(
            raised={name: alert for name, alert in raised.items() if alert.state == "raised"},
            seen=seen,
            gone=gone,
            n_alerts=watched.n_alerts + len(alerts),
        ),
        alerts,
    )


def silenced_by(alert: Alert, answers: Sequence[AlertResponse], now: float) -> AlertResponse | None:
    """The answer that silences an alert now, if any: the last one to its name, unless it was to an earlier raising
    (acknowledged), or has run out (snoozed).

    now: seconds since 1970 on the node's clock.
    """
    last = next((answer for answer in reversed(answers) if answer.name == alert.name), None)
    if last is None or (last.alert != alert.seq if last.until is None else last.until <= now):
        return None
    return last


def active_alerts(alerts: Sequence[Alert]) -> list[Alert]:
    """Raised and not cleared since, newest first."""
    return sorted(restore_state(alerts).raised.values(), key=lambda alert: (-alert.at, -alert.seq))


def open_alerts(alerts: Sequence[Alert], answers: Sequence[AlertResponse], now: float) -> list[Alert]:
    """Those that stand and that nobody has acknowledged or snoozed, newest first."""
    return [alert for alert in active_alerts(alerts) if silenced_by(alert, answers, now) is None]


def _raised(cause: Finding, step: int, at: float) -> Alert:
    return Alert(
        seq=0,
        at=at,
        step=step,
        name=cause.cause,
        level=RULES[cause.cause].level,
        state="raised",
        sentence=cause.sentence,
        action=cause.action,
        evidence=cause.evidence,
    )
