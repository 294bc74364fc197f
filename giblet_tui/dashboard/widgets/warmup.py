"""The learning-rate pane: planned and observed rate, and how long until the base rate."""

from __future__ import annotations

import numpy as np
from textual.content import Content

from giblet_train.schema.config import WatchConfig
from giblet_train.schema.health import duration
from giblet_train.schema.schedule import LrMismatch, LrSchedule, lr_at, lr_mismatch_at, warmup_at
from giblet_tui.dashboard.charts import axis, braille
from giblet_tui.dashboard.charts.braille import Layer
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.model.run_status import pace_s
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.metric_columns import Points, Range
from giblet_tui.monitor.snapshots import RunSnapshot

PLANNED_POINTS = 200
BAR = 14
RULE = 2
LABELLED_ROWS, GUTTER = 6, 8
"""Rows of a curve with an axis of its own, and the cells of that axis."""
UNPLANNED_CELLS = 40
SCALED_ROWS = 4
"""A curve with fewer rows has none to spare for its scale."""
CAUSES = {
    "": "no known cause matches",
    "stepped_per_epoch": "likely stepped once per epoch",
}


class WarmupClock(Pane):
    """Progress in words, then the curve where there is room."""

    def title(self) -> Content:
        if self.view is None or self.view.run.plan is None:
            return join_parts(("learning rate", "bold"))
        samples = {"planned": (" ⠒⠒", self.line_colors["axis"]), "observed": (" ⣀⠤", self.line_colors["other"])}
        legend = [join_parts(sample, (f" {word}", styles.MUTED)) for word, sample in samples.items()]
        heading = join_parts(("learning rate", "bold"))
        for entry in legend:
            longer = heading + entry
            heading = longer if longer.cell_length <= max(1, self.size.width - RULE) else heading
        return heading

    def size_hint(self, width: int) -> SizeHint | None:
        is_unplanned = self.view is not None and self.view.run.run.foreign and self.view.run.plan is None
        return SizeHint(UNPLANNED_CELLS, (1,), 1) if is_unplanned else None

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        view = self.view
        assert view is not None
        plan = view.run.plan
        if plan is None:
            return [_unplanned(view.run)]
        mismatch = mismatch_of(view, plan)
        words = [_progress(view, plan, mismatch, width), _rates(view, plan, mismatch)]
        if mismatch is not None:
            words.append(join_parts((f"✖ {CAUSES[mismatch.cause]}", "$error")))
        if height - len(words) < 2:
            return [words[1], *words[::2]] if mismatch is not None else words
        return [*words, *self._curve(view, plan, mismatch, width, height - len(words))]

    def _curve(
        self, view: RunView, plan: LrSchedule, mismatch: LrMismatch | None, width: int, height: int
    ) -> list[Content]:
        step = view.run.steps[-1].step if view.run.steps else 0
        last = plan.total_steps if step >= plan.warmup_steps else min(plan.total_steps, round(plan.warmup_steps * 1.5))
        step_N = np.unique(np.linspace(0, max(1, last), PLANNED_POINTS).round())
        planned = Points(step_N, np.array([lr_at(int(s), plan) for s in step_N]))
        observed = Points(view.curves.step_N, view.curves.lr_N)
        layers = [
            Layer(planned, "axis", "dotted"),
            Layer(observed, "bad" if mismatch is not None else "other", joined=False),
        ]
        top = max(plan.learning_rate, float(view.curves.lr_N.max()) if len(view.curves.lr_N) else 0.0)
        n_rows = height - (height >= SCALED_ROWS)
        even = axis.even_axis(Range(0, top * 1.05), n_rows) if n_rows >= LABELLED_ROWS else None
        labels = {even.row_of(place): axis.scientific(place) for place in even.places} if even is not None else {}
        gutter = GUTTER if labels else 0
        y_range = even.span if even is not None else Range(0, top * 1.05)
        rows = braille.draw(layers, Range(0, max(1, last)), y_range, width - gutter, n_rows)
        lines = [
            join_parts(
                (
                    f"{labels.get(index, ''):>{gutter - 2}} {'┤' if index in labels else '│'}" if gutter else "",
                    self.line_colors["axis"],
                ),
                *[(run.text, self.line_colors.get(run.style, "")) for run in row],
            )
            for index, row in enumerate(rows)
        ]
        words = "" if labels else f"top {axis.scientific(top)}"
        return [*lines, _scale(last, words, width, gutter)] if height >= SCALED_ROWS else lines


def _scale(last: int, words: str, width: int, gutter: int) -> Content:
    """Return the line under the curve: its first and last step, and between them words about the highest rate."""
    first, end = f"{'step':>{max(4, gutter - 1)}} 0", f"{last:,}"
    return join_parts((f"{first}{words.center(width - len(first) - len(end))}{end}", styles.MUTED))


def _unplanned(run: RunSnapshot) -> Content:
    """Return the line for a run without a plan; for another program's the rate in its log."""
    if run.run.foreign:
        rate = axis.scientific(run.epochs[-1].lr) if run.epochs and run.epochs[-1].lr else "not known"
        return join_parts("LR ", (rate, "bold"), ("  no plan is known", styles.MUTED))
    sentence = "waiting for the engine's plan" if run.health.live else "ended before the engine had a plan"
    return join_parts((sentence, styles.MUTED))


def mismatch_of(view: RunView, plan: LrSchedule) -> LrMismatch | None:
    """Return how the newest step's rate differs from the plan, None within the configured tolerance."""
    if not view.run.steps:
        return None
    newest = view.run.steps[-1]
    watch = view.run.config.watch if view.run.config else WatchConfig()
    return lr_mismatch_at(newest.step, newest.lr, plan, watch.lr_tolerance)


def _progress(view: RunView, plan: LrSchedule, mismatch: LrMismatch | None, width: int) -> Content:
    step = view.run.steps[-1].step + 1 if view.run.steps else 0
    warmup = warmup_at(step, plan)
    if not plan.warmup_steps:
        return join_parts(
            ("no warm-up: ", styles.MUTED), f"base rate {axis.scientific(plan.learning_rate)} from step 0"
        )
    if warmup.finished and mismatch is not None:
        return join_parts((f"warm-up should have ended at step {plan.warmup_steps:,}", styles.MUTED))
    if warmup.finished:
        kind = {"cosine": "cosine to", "step": "steps down to", "none": "constant at"}[plan.scheduler_type]
        end = plan.learning_rate if plan.scheduler_type == "none" else lr_at(plan.total_steps - 1, plan)
        return join_parts(
            ("✔ warm-up done ", "$success"),
            (f"at {plan.warmup_steps:,}; {kind} {axis.scientific(end)}", styles.MUTED),
        )
    pace = pace_s(view.run)
    time_left = f", {duration(warmup.steps_left * pace)}" if pace is not None and view.run.health.live else ""
    bar, rest = progress_bar(warmup.fraction, max(4, min(BAR, width - 34)))
    return join_parts(
        ("warm-up ", "bold"),
        (bar, "$accent"),
        (rest, styles.MUTED),
        f" {step:,}/{plan.warmup_steps:,}",
        (f"  {warmup.steps_left:,} steps{time_left} to base", styles.MUTED),
    )


def _rates(view: RunView, plan: LrSchedule, mismatch: LrMismatch | None) -> Content:
    if not view.run.steps:
        return join_parts(("planned at step 0 ", styles.MUTED), axis.scientific(lr_at(0, plan)))
    newest = view.run.steps[-1]
    planned = lr_at(newest.step, plan)
    if mismatch is None:
        return join_parts("LR ", (axis.scientific(newest.lr), "bold"), ("  ✔ as planned", "$success"))
    ratio = mismatch.ratio
    factor = f"{ratio:.3g}×" if ratio >= 1 else f"1/{1 / ratio:.3g}" if ratio > 0 else "0×"
    return join_parts((f"✖ LR {axis.scientific(newest.lr)}, plan {axis.scientific(planned)} ({factor})", "$error bold"))
