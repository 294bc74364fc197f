"""The alerts pane: what is wrong now, its evidence and what to do; below it the history and notable events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from textual.content import Content

from giblet_train.diagnosis.alert_responses import active_alerts
from giblet_train.schema.records import Alert
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.problem import current_sentence
from giblet_tui.dashboard.model.run_status import answer_words, health_now, notable_events, open_alerts
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.widgets.pane import ScrollingPane
from giblet_tui.reporting.tables import as_yaml

LEAST, MOST = 3, 14


class Alerts(ScrollingPane):
    """Open alerts first, each as it is now and with its remedy; then answered ones, cleared ones, and events."""

    KEYS: ClassVar[tuple[str, ...]] = ("A seen", "Z snooze", "W why")
    TICKS: ClassVar[bool] = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="alerts")
        self._clock = clock

    def title(self) -> Content:
        if self.view is None:
            return join_parts(("alerts", "bold"))
        run = self.view.run
        n_open, n_active = len(open_alerts(run, self.view.node, self._clock())), len(active_alerts(run.alerts))
        answer_count = f", {n_active - n_open} answered" if n_active > n_open else ""
        return join_parts(
            ("alerts  ", "bold"), (f"{n_open} open{answer_count}", "$warning" if n_open else styles.MUTED)
        )

    def size_hint(self, width: int) -> SizeHint | None:
        return SizeHint(0, (LEAST, max(LEAST, min(MOST, 1 + self.content_rows(width)))))

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        run, rows = self.view.run, []
        active = active_alerts(run.alerts)
        for alert in active:
            answer = answer_words(alert, run, self.view.node, self._clock())
            if answer:
                text = f"✓ {answer}  {alert.name}  {alert.sentence}  {_time_of_day(alert.at)}"
                rows.append(join_parts((text, styles.MUTED)))
            else:
                rows += _open_alert(alert, self.view, self._clock())
        rows += [_cleared(alert) for alert in reversed(run.alerts) if alert.state == "cleared"]
        for event in notable_events(run):
            style = styles.LEVEL_STYLES[event.level]
            rows.append(join_parts((f"{_time_of_day(event.at)}  {event.name}  ", style), event.sentence))
        return rows or [join_parts(("✔ no alerts", "$success"))]


def _open_alert(alert: Alert, view: RunView, now: float) -> list[Content]:
    """Return an alert that nobody has answered: its current sentence, evidence and remedy, and how it was raised."""
    sentence, remedy = current_sentence(alert, view, health_now(view.run, view.node, now), now)
    style = styles.LEVEL_STYLES[alert.level]
    rows = [join_parts((f"▲ {alert.name}  ", f"{style} bold"), sentence)]
    if remedy:
        rows.append(join_parts("    → ", (remedy, "bold")))
    evidence = ", ".join(f"{key} {_words(value)}" for key, value in alert.evidence.items())
    history = f"    raised {_time_of_day(alert.at)} at step {alert.step}"
    if not sentence.startswith(alert.sentence):
        history += f": {alert.sentence}"
    return [*rows, join_parts((f"{history}{f' ({evidence})' if evidence else ''}", styles.MUTED))]


def _words(value: Any) -> str:
    """Return a value of the evidence as people write it: `status fail, needed 0` for a mapping."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else "unknown" if value is None else as_yaml(value)


def _cleared(alert: Alert) -> Content:
    text = f"  {_time_of_day(alert.at)}  {alert.name} ended at step {alert.step}: it was “{alert.sentence}”"
    return join_parts((text, styles.MUTED))


def _time_of_day(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
