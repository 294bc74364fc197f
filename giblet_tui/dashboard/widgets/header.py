"""The run's line at the top: state in glyph and word, where, how far, how long still, and its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from textual.content import Content

from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.run_view import RunView, epoch_words, health_now, open_alerts, state_words
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.dashboard.widgets.verdict import verdict_word
from giblet_tui.monitor.snapshots import nodes_of

BAR = 12
ROOMY = 90


class RunHeader(Pane, can_focus=False):
    """One row about the chosen run; a second, tinted one for the worst that there is to know now."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="header")
        self._clock = clock

    def title(self) -> Content:
        return Content()

    def update_content(self) -> None:
        self.set_class(self.view is not None and self._trouble(self.view) is not None, "-trouble")
        super().update_content()

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        trouble = self._trouble(self.view)
        if trouble is None or height == 1:
            return [self._state(self.view, width, trouble)]
        return [self._state(self.view, width, trouble, told=False), problem_bar(trouble, width)]

    def _state(self, view: RunView, width: int, trouble: Problem | None, *, told: bool = True) -> Content:
        """The run in one row; told: what is wrong with it too, for there is no second row."""
        now = self._clock()
        health = health_now(view.run, view.node, now)
        ink = styles.state_style(health.state)
        parts: list[Part] = [(f"{styles.glyph(health.state)} {state_words(health, view.node, now)} ", f"{ink} bold")]
        where = ",".join(nodes_of(view.run)) or view.node.node
        parts += [(view.run.run.name, "bold"), (f" {view.run.run.run_id[-4:]} on {where}", styles.MUTED)]
        if epochs := epoch_words(view.run):
            parts.append(f"  epoch {epochs}")
        parts += self._progress(view, width)
        if view.verdict is not None:
            parts += ["  ", *verdict_word(view.verdict, health)]
        if trouble is not None and told:
            parts.append((f"  {trouble.glyph} {trouble.sentence}", trouble.style))
        elif trouble is None and (health.state not in ("running", "finished") or width >= ROOMY):
            parts.append((f"  {health.sentence}", styles.MUTED))
        return join_parts(*parts)

    def _progress(self, view: RunView, width: int) -> list[Part]:
        plan = view.run.plan_record
        if plan is None or not view.run.steps:
            return []
        done = view.run.steps[-1].step + 1
        parts: list[Part] = []
        if width >= ROOMY:
            behind, ahead = progress_bar(done / max(1, plan.total_steps), BAR)
            parts += ["  ", (behind, "$accent"), (ahead, styles.MUTED), f" {done:,}/{plan.total_steps:,}"]
        left = view.run.eta_s
        if left is not None and health_now(view.run, view.node, self._clock()).state == "running":
            parts.append((f"  {duration(left)} left", styles.MUTED))
        return parts

    def _trouble(self, view: RunView) -> Problem | None:
        """The newest alert that nobody has answered, or else how the run failed or stalled."""
        now = self._clock()
        alerts = open_alerts(view.run, view.node, now)
        health = health_now(view.run, view.node, now)
        if alerts and health.live:
            first = alerts[0]
            more = f"  and {len(alerts) - 1} more" if len(alerts) > 1 else ""
            keys = "A seen  Z snooze  9 all"
            said = f"{first.name}: {first.sentence}{more}"
            return Problem("▲", said, first.action, keys, styles.LEVEL_STYLES[first.level])
        if health.state in ("failed", "died", "stalled"):
            glyph, ink = styles.glyph(health.state), styles.state_style(health.state)
            return Problem(glyph, health.sentence, f"giblet why {view.run.run.run_id}", "W why", ink)
        return None


class Problem(NamedTuple):
    """What is wrong, what to do about it, and the keys for that."""

    glyph: str
    sentence: str
    action: str
    keys: str
    style: str


def problem_bar(trouble: Problem, width: int) -> Content:
    """The whole row tinted, its keys at the right end; what is wrong is cut rather than they."""
    room = max(1, width - len(trouble.keys) - 2)
    parts = [(f"{trouble.glyph} {trouble.sentence}", f"{trouble.style} bold"), (f"  → {trouble.action}", "")]
    said = fit_parts(parts, room).truncate(room, ellipsis=True)
    keys = join_parts((f"{trouble.keys:>{max(0, width - said.cell_length)}}", styles.MUTED))
    return (said + keys).stylize(f"on {trouble.style} 15%")
