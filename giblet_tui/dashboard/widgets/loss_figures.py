"""The figures in a loss panel's heading: training and validation at the end of the last epoch, each with its change.

Both changes are relative to the loss of the best constant, and both figures are of one epoch, as in the verdict.
"""

from __future__ import annotations

import math

import numpy as np

from giblet_tui.dashboard.charts import axis, loss_chart
from giblet_tui.dashboard.model.run_status import constant_of
from giblet_tui.dashboard.model.run_view import RunView
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts
from giblet_tui.monitor.metric_columns import Floats, last_value

SETTLED = 0.005
SHORT_LABEL = 10


def newest_figures(view: RunView, component: str, room: int, raw_N: Floats, smooth_N: Floats) -> list[Part]:
    """Return the newest figures in the longest form that fits in `room` cells.

    Args:
        view: The run.
        component: The loss.
        room: Cells for the figures.
        raw_N: Every step's loss.
        smooth_N: The curve that is drawn, for its spread and for where it ends in NaN.
    """
    if not len(smooth_N):
        return []
    if not math.isfinite(last_value(smooth_N)):
        unit, number_N = _positions(view)
        return [(" ✖ NaN", "$error bold"), (f" from {unit} {_first_bad(number_N, smooth_N):,}", "$error")]
    constant, spread = constant_of(view.run, component), loss_chart.spread_of(smooth_N)
    train = last_value(view.curves.train.get(component, smooth_N[:0]))
    held_out = last_value(view.curves.validation.get(component, smooth_N[:0]))
    if not math.isfinite(train):
        return [(" step", styles.MUTED), *_figure(last_value(raw_N), constant, spread), _waiting(view)]
    epoch: Part = (f"  epoch {view.run.epochs[-1].epoch}" if view.run.epochs else "", styles.MUTED)
    both = _labelled(train, held_out, constant, spread)
    forms = [[*both, epoch], both, both[1:], _labelled(train, held_out, 0.0, spread)]
    fitting = (form for form in forms if join_parts(*form).cell_length <= room)
    return next(fitting, short_pair(train, held_out, room + SHORT_LABEL))


def short_pair(train: float, held_out: float, room: int) -> list[Part]:
    """Return `train/validation` in the fewest digits in which they differ."""
    if not math.isfinite(held_out):
        return [(f" {axis.figure(train, significant=3)}", "bold")]
    short = axis.pair(train, held_out, room - SHORT_LABEL)
    return [(f" {short[0]}", "bold"), f"/{short[1]}"]


def _labelled(train: float, held_out: float, constant: float, spread: float) -> list[Part]:
    """Return both figures with their names, and with their changes if there is a constant to compare with."""
    figures = [(" train", styles.MUTED), *_figure(train, constant, spread)]
    if not math.isfinite(held_out):
        return figures
    return [*figures, ("  val", styles.MUTED), *_figure(held_out, constant, spread)]


def _figure(value: float, constant: float, spread: float) -> list[Part]:
    """Return a figure directly followed by its change from the best constant; red where it is worse than that."""
    figure: Part = (f" {axis.figure(value, spread)}", "$error bold" if 0 < constant < value else "bold")
    if not constant or not math.isfinite(value):
        return [figure]
    style = "$success" if value < constant * (1 - SETTLED) else "$warning"
    return [figure, (f" {axis.change(value, constant)}", style)]


def _waiting(view: RunView) -> Part:
    return ("  val after epoch 1" if view.run.health.live else "", styles.MUTED)


def _positions(view: RunView) -> tuple[str, Floats]:
    """Return the steps of the curve; the epochs of a run that records no steps."""
    if len(view.curves.step_N):
        return "step", view.curves.step_N
    return "epoch", np.array([epoch.epoch for epoch in view.run.epochs], dtype=float)


def _first_bad(number_N: Floats, values_N: Floats) -> int:
    """Return the step or epoch from which on nothing is finite."""
    finite = np.flatnonzero(np.isfinite(values_N))
    first = int(finite[-1]) + 1 if len(finite) else 0
    return int(number_N[min(first, len(number_N) - 1)]) if len(number_N) else 0
