"""The alerts pane: what is wrong now, its evidence and what to do; below it, notable events."""

from __future__ import annotations

import time

from textual.content import Content

from giblet_tui.dashboard import palette
from giblet_tui.dashboard.text import line
from giblet_tui.dashboard.view import active_alerts, notable_events, open_alerts
from giblet_tui.dashboard.widgets.pane import Pane


class Alerts(Pane):
    """Raised alerts first, each with its action; then warnings and errors the engine itself reported."""

    def heading(self) -> Content:
        if self.view is None:
            return line(("alerts", "bold"))
        count, raised = len(open_alerts(self.view)), len(active_alerts(self.view.run))
        seen = f", {raised - count} seen" if raised > count else ""
        return line(("alerts  ", "bold"), (f"{count} raised{seen}", "$warning" if count else palette.MUTED))

    def lines(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        rows: list[Content] = []
        for alert in active_alerts(self.view.run):
            if alert.seq in self.view.seen:
                rows.append(line((f"✓ seen  {alert.name}  {alert.sentence}  {_clock(alert.at)}", palette.MUTED)))
                continue
            ink = palette.LEVEL_STYLES[alert.level]
            rows.append(
                line((f"▲ {alert.name}  ", f"{ink} bold"), alert.sentence, (f"  {_clock(alert.at)}", palette.MUTED))
            )
            if alert.evidence:
                rows.append(line(("    " + ", ".join(f"{k} {v}" for k, v in alert.evidence.items()), palette.MUTED)))
            if alert.action:
                rows.append(line("    do: ", (alert.action, "bold")))
        for event in notable_events(self.view.run):
            ink = palette.LEVEL_STYLES[event.level]
            rows.append(line((f"{_clock(event.at)}  {event.name}  ", ink), event.sentence))
        return rows or [line(("✔ nothing is raised", "$success"))]


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
