"""The panes of the main screen, side by side."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult

from giblet_tui.dashboard.widgets.alerts import Alerts
from giblet_tui.dashboard.widgets.chart_group import Charts
from giblet_tui.dashboard.widgets.hardware import Hardware
from giblet_tui.dashboard.widgets.log import LogTail
from giblet_tui.dashboard.widgets.loss_balance import Balance
from giblet_tui.dashboard.widgets.loss_chart import LossPanel
from giblet_tui.dashboard.widgets.run_list import RunList
from giblet_tui.dashboard.widgets.verdict import VerdictStrip
from giblet_tui.dashboard.widgets.warmup import WarmupClock


class Panes(Charts):
    """Holds every pane."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(id="panes")
        self._clock = clock

    def compose(self) -> ComposeResult:
        yield RunList()
        yield LossPanel("total")
        yield LossPanel("fmri")
        yield Hardware(id="hardware")
        for component in ("video", "audio", "text"):
            yield LossPanel(component)
        yield Balance(id="balance")
        yield WarmupClock(id="clock")
        yield VerdictStrip(id="verdict")
        yield Alerts(self._clock)
        yield LogTail()
