"""Criteria against what the curve can still reach."""

from __future__ import annotations

import math

from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.curve_fit import Points, lowest_at
from giblet_train.diagnosis.rules.registry import SHORT_WARMUP, fault, rule
from giblet_train.schema.config import Criterion
from giblet_train.schema.schedule import LrSchedule

FEWEST_POINTS = 5
EARLIEST = 0.1
"""Share of the planned epochs before which no course is drawn."""
MARGIN = 0.8
"""A criterion is called unreachable when even the best course takes the run to less than this share of it."""


@rule(
    group="curve",
    fault=fault(
        "unreachable",
        "a fall of 90 % is required of noise",
        **SHORT_WARMUP,
        criteria={"loss_drop": {"kind": "loss_drop", "threshold": 0.9}},
    ),
)
def criterion_unreachable(case: RunHistory) -> Finding | None:
    """A fall that is asked for, and that even the best course of the curve does not bring by the last epoch."""
    if case.config is None or case.plan is None or not case.start_total:
        return None
    for name, criterion in case.config.criteria.items():
        if criterion.kind == "loss_drop" and criterion.scale == "raw":
            found = _unreachable(case, name, criterion, case.start_total)
            if found:
                return found
    return None


def _loss_curve(case: RunHistory, plan: LrSchedule, split: str) -> Points:
    """(epochs gone by, loss) after warm-up."""
    if split == "train" and case.steps:
        return case.block_losses
    warm = math.ceil(plan.warmup_steps / plan.steps_per_epoch)
    totals = case.train_totals if split == "train" else case.validation_totals
    return [(float(e), v) for e, v in totals if e > warm]


def _unreachable(case: RunHistory, name: str, criterion: Criterion, start: float) -> Finding | None:
    assert case.config is not None and case.plan is not None
    points = _loss_curve(case, case.plan, criterion.split)
    if len(points) < FEWEST_POINTS or points[-1][0] < EARLIEST * case.config.num_epochs:
        return None
    at_best = 1 - lowest_at(points, case.config.num_epochs) / start
    seen = 1 - min(v for _, v in points) / start
    if max(at_best, seen) >= MARGIN * criterion.threshold:
        return None
    return Finding(
        confidence=0.75,
        sentence=(
            f"{name} asks for {-criterion.threshold:+.0%}; the {criterion.split} loss is at {-seen:+.1%}, and its "
            f"course takes it to {-at_best:+.1%} at best by epoch {case.config.num_epochs}."
        ),
        evidence={"criterion": name, "needed": criterion.threshold, "seen": seen, "at_best": at_best},
        action="Judge it on what can be explained (scale: explainable): noise cannot be learnt.",
    )
