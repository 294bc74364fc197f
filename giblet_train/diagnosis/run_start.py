"""What a run began with, and its newest plan: shared by criteria and rules. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import msgspec

from giblet_train.schema.records import AnyMetric, RunMetric, StepMetric

FIRST_STEPS = 10
"""Steps whose mean is what a run with an initialisation better than the best constant began with."""
ELSEWHERE = 0.05
"""Relative difference from the best constant from which a run began elsewhere."""
LEARNT_BEYOND = 0.01
"""Relative decrease from its own beginning that shows that a run learnt more than its initialisation knew."""


def newest_plan(metrics: Sequence[AnyMetric]) -> RunMetric | None:
    """Return the newest plan of a run, with the first losses of its first start: a resume does not measure them."""
    plans = [m for m in metrics if isinstance(m, RunMetric)]
    first_loss = next((plan.first_loss for plan in plans if plan.first_loss), {})
    return msgspec.structs.replace(plans[-1], first_loss=first_loss) if plans else None


def initial_total(steps: Sequence[StepMetric], start_total: float | None) -> float | None:
    """Return the total that a run began with; None if its first steps are unknown.

    That is the best constant, or the mean of the first steps for weights that start clearly better, as after a ridge
    initialisation.
    """
    first = [s.total for s in steps[:FIRST_STEPS] if s.total is not None and s.step < FIRST_STEPS]
    if not first or not start_total:
        return None
    return min(start_total, fmean(first)) if first[0] < start_total * (1 - ELSEWHERE) else start_total


def format_loss(value: float) -> str:
    """Format a loss: `275,959.0`, `0.9123`."""
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_losses(first: float, second: float) -> tuple[str, str]:
    """Format two losses with as many digits as are needed to distinguish them."""
    texts = format_loss(first), format_loss(second)
    for digits in range(5, 9):
        if texts[0] != texts[1] or first == second:
            break
        texts = f"{first:,.{digits}g}", f"{second:,.{digits}g}"
    return texts
