"""The alerts pane: what is wrong now, its evidence and what to do; below it, notable events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ClassVar

from textual.content import Content

from giblet_train.diagnosis.alerts import active_alerts
from giblet_train.schema.records import Alert
from giblet_tui.dashboard.model.run_view import answered, notable_events, open_alerts
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts
from giblet_tui.dashboard.widgets.pane import Pane


class Alerts(Pane):
    """Raised alerts first, each with its action; then warnings and errors the engine itself reported."""

    KEYS: ClassVar[tuple[str, ...]] = ("A seen", "Z snooze")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="alerts")
        self._clock = clock

    def title(self) -> Content:
        if self.view is None:
            return join_parts(("alerts", "bold"))
        run = self.view.run
        count, raised = len(open_alerts(run, self.view.node, self._clock())), len(active_alerts(run.alerts))
        seen = f", {raised - count} answered" if raised > count else ""
        return join_parts(("alerts  ", "bold"), (f"{count} raised{seen}", "$warning" if count else styles.MUTED))

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        run, rows = self.view.run, []
        for alert in active_alerts(run.alerts):
            said = answered(alert, run, self.view.node, self._clock())
            if said:
                rows.append(join_parts((f"✓ {said}  {alert.name}  {alert.sentence}  {_clock(alert.at)}", styles.MUTED)))
            else:
                rows += _calling(alert)
        for event in notable_events(run):
            ink = styles.LEVEL_STYLES[event.level]
            rows.append(join_parts((f"{_clock(event.at)}  {event.name}  ", ink), event.sentence))
        return rows or [join_parts(("✔ nothing is raised", "$success"))]


def _calling(alert: Alert) -> list[Content]:
    """An alert that nobody has answered: what it says, its evidence, and what to do."""
    ink = styles.LEVEL_STYLES[alert.level]
    rows = [join_parts((f"▲ {alert.name}  ", f"{ink} bold"), alert.sentence, (f"  {_clock(alert.at)}", styles.MUTED))]
    if alert.evidence:
        rows.append(join_parts(("    " + ", ".join(f"{k} {v}" for k, v in alert.evidence.items()), styles.MUTED)))
    if alert.action:
        rows.append(join_parts("    do: ", (alert.action, "bold")))
    return rows


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
