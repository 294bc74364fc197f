"""The run's line at the top: state in glyph and word, where, how far, how long still, and its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable

from textual.content import Content

from giblet_train.contract.health import GLYPHS, duration
from giblet_tui.dashboard import palette
from giblet_tui.dashboard.text import Part, bar, line
from giblet_tui.dashboard.view import RunView, epoch_words, health_now, in_doubt, open_alerts, state_words
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.dashboard.widgets.verdict import verdict_word

BAR = 12
ROOMY = 90


class RunHeader(Pane, can_focus=False):
    """One row about the chosen run; a second one, when there is room, for its newest alert."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="header")
        self._clock = clock

    def heading(self) -> Content:
        return Content()

    def lines(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        return [self._state(self.view, width)]

    def _state(self, view: RunView, width: int) -> Content:
        now = self._clock()
        health = health_now(view.run, view.node, now)
        ink = palette.STATE_STYLES[health.state]
        parts: list[Part] = [(f"{GLYPHS[health.state]} {state_words(health, view.node, now)} ", f"{ink} bold")]
        parts += [(view.run.run.name, "bold"), (f" on {view.node.node}", palette.MUTED)]
        if epochs := epoch_words(view.run):
            parts.append(f"  epoch {epochs}")
        parts += self._progress(view, width)
        if view.verdict is not None:
            parts += ["  ", *verdict_word(view.verdict.status, dimmed=in_doubt(health))]
        alerts = open_alerts(view)
        if alerts:
            parts.append((f"  ▲ {alerts[0].name}: {alerts[0].sentence}", palette.LEVEL_STYLES[alerts[0].level]))
        elif health.state not in ("running", "finished") or width >= ROOMY:
            parts.append((f"  {health.sentence}", palette.MUTED))
        return line(*parts)

    def _progress(self, view: RunView, width: int) -> list[Part]:
        plan = view.run.plan_record
        if plan is None or not view.run.steps:
            return []
        done = view.run.steps[-1].step + 1
        parts: list[Part] = []
        if width >= ROOMY:
            parts += [(f" ▕{bar(done / max(1, plan.total_steps), BAR)}▏", "$accent"), f" {done:,}/{plan.total_steps:,}"]
        left = view.run.eta_s
        if left is not None and health_now(view.run, view.node, self._clock()).state == "running":
            parts.append((f"  {duration(left)} left", palette.MUTED))
        return parts
