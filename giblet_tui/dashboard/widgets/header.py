"""The run's line at the top: state, age of the last step if late, name, progress, time left, verdict; then problems."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable
from typing import ClassVar

from textual.content import Content

from giblet_train.schema.health import duration
from giblet_tui.dashboard.model.problem import Problem, problem_of
from giblet_tui.dashboard.model.run_status import (
    epoch_words,
    health_now,
    is_evaluating,
    late_step_words,
    state_words,
    step_words,
    verdict_words,
)
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, fit_parts, join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.snapshots import nodes_of

BAR = 12
EPOCH_ENDED = re.compile(r"epoch (\d+)(?: of (\d+))? has ended, ")
"""Beginning of the sentence about a command, whose epoch the row names already."""
TALL_ENOUGH = 20
"""Rows of the screen from which problems have rows of their own."""

ROW_CLASSES = ("-problem", "-long-problem", "-longest-problem")
"""Classes of the header by the rows of its problem."""
MOST_ROWS = len(ROW_CLASSES)

Segment = tuple[int, Part]
"""A part of the row, and how dispensable it is; 0 is always shown."""


class RunHeader(Pane, can_focus=False):
    """One row about the chosen run; up to three more, tinted, for the worst current problem and its remedy."""

    TICKS: ClassVar[bool] = True

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__(id="header")
        self._clock = clock

    def title(self) -> Content:
        return Content()

    def update_content(self) -> None:
        self._set_height()
        super().update_content()

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        problem = problem_of(self.view, self._clock())
        if problem is None or height == 1:
            return [self._state(self.view, width, problem, has_bar=False)]
        return [self._state(self.view, width, problem, has_bar=True), *problem_bar(problem, width, height - 1)]

    def _set_height(self) -> None:
        """Take a row for a problem on a tall screen, and up to two more where the remedy needs them."""
        width = max(1, self.size.width)
        problem = problem_of(self.view, self._clock()) if self.view is not None else None
        has_room = problem is not None and self.is_mounted and self.screen.size.height >= TALL_ENOUGH
        n_rows = len(problem_bar(problem, width, MOST_ROWS)) if problem is not None and has_room else 0
        for rows, name in enumerate(ROW_CLASSES, start=1):
            self.set_class(n_rows == rows, name)

    def _state(self, view: RunView, width: int, problem: Problem | None, *, has_bar: bool) -> Content:
        """Return the run in one row, with its problem if that has no row of its own (has_bar).

        If the row is too short, what is least important is left out whole: see `_fit`.
        """
        now = self._clock()
        health = health_now(view.run, view.node, now)
        style = styles.state_style(health.state)
        late = late_step_words(view.run, view.node, now)
        is_late = late is not None and late.style != styles.MUTED
        phase = late.text if late is not None and not is_late else "evaluating" if is_evaluating(view.run) else ""
        epoch_end = EPOCH_ENDED.match(health.sentence)
        epochs = f"{epoch_end[1]}/{epoch_end[2]}" if epoch_end and epoch_end[2] else epoch_words(view.run)
        sentence = health.sentence[epoch_end.end() :] if epoch_end else health.sentence
        verdict = verdict_words(view.judgement.verdict, health)
        segments: list[Segment] = [
            (0, (f"{styles.glyph(health.state)} {state_words(health, view.node, now)} ", f"{style} bold")),
            (0, (f"{late.text}  ", late.style) if late is not None and is_late else ""),
            (0, (view.run.run.name, "bold")),
            (4, (f" {view.run.run.run_id[-4:]}", styles.MUTED)),
            (5, (f" on {','.join(nodes_of(view.run)) or view.node.node}", styles.MUTED)),
            (2, f"  epoch {epochs}" if epochs else step_words(view.run)),
            *self._progress(view, health.state, phase, is_late),
            (1, (f"  {verdict.text}" if verdict.text else "", styles.MUTED if is_late else verdict.style)),
        ]
        if problem is not None and not has_bar:
            is_known = late is not None and late.text in problem.sentence
            words = f"→ {problem.remedy}" if is_known and problem.remedy else f"{problem.glyph} {problem.sentence}"
            segments.append((0, (f"  {words}", problem.style)))
        elif (problem is None or health.sentence not in problem.sentence) and (late is None or not health.live):
            segments.append((7, (f"  {sentence}", styles.MUTED)))
        return _fit(segments, width)

    def _progress(self, view: RunView, state: str, phase: str, is_late: bool) -> list[Segment]:
        plan = view.run.plan_record
        if plan is None or not view.run.steps:
            return []
        n_done = view.run.steps[-1].step + 1
        bar, rest = progress_bar(n_done / max(1, plan.total_steps), BAR)
        segments: list[Segment] = [(8, ("  ", "")), (8, (bar, "$accent")), (8, (rest, styles.MUTED))]
        segments.append((6, f"  step {n_done:,}/{plan.total_steps:,}"))
        if state != "running":
            return segments
        if phase:
            return [*segments, (1, (f"  {phase}", "$accent bold"))]
        left_s = None if is_late else view.run.eta_s
        return [*segments, (3, (f"  {duration(left_s)} left", styles.MUTED))] if left_s is not None else segments


def _fit(segments: list[Segment], width: int) -> Content:
    """Return the segments in one row; while it is too long, those with the highest number are left out."""
    row = join_parts(*(part for _, part in segments))
    while row.cell_length > width and (last_number := max(number for number, _ in segments)):
        segments = [segment for segment in segments if segment[0] < last_number]
        row = join_parts(*(part for _, part in segments))
    return row


def problem_bar(problem: Problem, width: int, height: int) -> list[Content]:
    """Return tinted rows with the problem, its remedy and the keys: one row if all of it fits, else two or three.

    The keys are at the right end. What does not fit is cut from the sentence, then from the remedy, not from the keys.
    """
    glyph: Part = (f"{problem.glyph} ", f"{problem.style} bold")
    sentence: Part = (problem.sentence, "bold")
    remedy: Part = (f"  → {problem.remedy}" if problem.remedy else "", "")
    room = max(1, width - len(problem.keys) - 2)
    in_one_row = join_parts(glyph, sentence, remedy)
    if height == 1 or in_one_row.cell_length <= room:
        fitting = fit_parts([glyph, sentence, remedy], room).truncate(room, ellipsis=True)
        return [_tinted(_with_keys(fitting, problem.keys, width), problem.style, width)]
    first = join_parts(glyph, sentence).truncate(width, ellipsis=True)
    pieces = _wrapped(f"→ {problem.remedy}", width - 4, room - 4) if problem.remedy else [""]
    more = [join_parts(f"  {piece}" if index == 0 else f"    {piece}") for index, piece in enumerate(pieces)]
    if len(more) > height - 1:
        more = [*more[: height - 2], (more[height - 2] + join_parts(" …")).truncate(room, ellipsis=True)]
    rows = (first, *more[:-1], _with_keys(more[-1], problem.keys, width))
    return [_tinted(row, problem.style, width) for row in rows]


def _wrapped(text: str, width: int, last_width: int) -> list[str]:
    """Return the text in rows as wide as possible, of which the last one is not longer than `last_width`."""
    for cells in range(max(1, width), max(1, last_width), -1):
        pieces = textwrap.wrap(text, cells)
        if len(pieces[-1]) <= last_width:
            return pieces
    return textwrap.wrap(text, max(1, last_width))


def _with_keys(row: Content, keys: str, width: int) -> Content:
    return row + join_parts((f"{keys:>{max(0, width - row.cell_length)}}", styles.MUTED))


def _tinted(row: Content, style: str, width: int) -> Content:
    return (row + Content(" " * max(0, width - row.cell_length))).stylize(f"on {style} 15%")
