"""Turn successive diagnoses into alerts. Pure; `alert_responses` combines them with people's responses.

An alert is raised after several checks that find a cause (one for a certain cause), and cleared after several checks
without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from giblet_train.diagnosis.diagnose import Diagnosis
from giblet_train.diagnosis.rules.case import Finding
from giblet_train.diagnosis.rules.registry import RULES
from giblet_train.schema.config import WatchConfig
from giblet_train.schema.records import Alert

CERTAIN = 0.95
"""Confidence from which one check is enough."""
LIKELY = 0.5
"""Confidence below which a cause probably follows from another one and raises no alert."""


class AlertState(msgspec.Struct, frozen=True, kw_only=True):
    """State of the alerts of a run."""

    raised: Mapping[str, Alert] = {}
    """Name -> active alert."""
    seen: Mapping[str, int] = {}
    """Name -> consecutive checks that found the cause."""
    gone: Mapping[str, int] = {}
    """Name -> consecutive checks without the cause."""
    n_alerts: int = 0
    """Number of alerts ever written, which is the number of the next one."""


def restore_state(alerts: Sequence[Alert]) -> AlertState:
    """Rebuild the state from the alerts written so far, after a restart of the watcher."""
    last = {alert.name: alert for alert in alerts}
    return AlertState(raised={n: a for n, a in last.items() if a.state == "raised"}, n_alerts=len(alerts))


def update(
    alert_state: AlertState, diagnosis: Diagnosis, watch: WatchConfig, step: int, at: float, *, last: bool = False
) -> tuple[AlertState, list[Alert]]:
    """Return the new state and the new alerts after one check.

    Args:
        alert_state: state before the check.
        diagnosis: result of the check.
        watch: how many checks raise or clear an alert.
        step: step of the newest record.
        at: time of the check, in seconds since 1970.
        last: no further check will follow, so none is awaited.
    """
    causes: dict[str, Finding] = {c.cause: c for c in diagnosis.causes if c.confidence >= LIKELY}
    n_seen = {name: alert_state.seen.get(name, 0) + 1 for name in causes}
    n_gone = {name: 0 if name in causes else alert_state.gone.get(name, 0) + 1 for name in alert_state.raised}
    new = [
        _raised(cause, step, at)
        for name, cause in causes.items()
        if name not in alert_state.raised and (last or n_seen[name] >= watch.raise_looks or cause.confidence >= CERTAIN)
    ]
    new += [
        msgspec.structs.replace(alert_state.raised[name], state="cleared", step=step, at=at)
        for name, looks in n_gone.items()
        if looks >= watch.clear_looks
    ]
    alerts = [msgspec.structs.replace(alert, seq=alert_state.n_alerts + i) for i, alert in enumerate(new)]
    alert_by_name = dict(alert_state.raised) | {a.name: a for a in alerts}
    return (
        AlertState(
            raised={name: alert for name, alert in alert_by_name.items() if alert.state == "raised"},
            seen=n_seen,
            gone=n_gone,
            n_alerts=alert_state.n_alerts + len(alerts),
        ),
        alerts,
    )


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
