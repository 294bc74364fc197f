"""Rules for success criteria: out of reach for the curve, at risk, or not met."""

from __future__ import annotations

import math

from giblet_train.diagnosis.criterion_kinds import judge_criteria
from giblet_train.diagnosis.criterion_verdict import COMPLETED, RunMetrics
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.curve_fit import Points, lowest_at
from giblet_train.diagnosis.rules.registry import SHORT_WARMUP, fault, rule
from giblet_train.schema.config import Criterion
from giblet_train.schema.schedule import LrSchedule

FEWEST_POINTS = 5
EARLIEST = 0.1
"""Fraction of the planned epochs before which no course is fitted."""
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
    """Report a required decrease that even the best course of the curve does not reach by the last epoch."""
    if case.config is None or case.plan is None or not case.start_total:
        return None
    for name, criterion in case.config.criteria.items():
        if criterion.kind == "loss_drop" and criterion.scale == "raw":
            finding = _unreachable(case, name, criterion, case.start_total)
            if finding:
                return finding
    return None


@rule(group="verdict")
def criterion_missed(case: RunHistory) -> Finding | None:
    """Report every criterion that is at risk or not met, so that `why` and `verdict` never contradict each other."""
    if case.config is None or (case.run is None and case.health is None):
        return None
    run = RunMetrics(case.config, case.run, case.steps, case.epochs, case.events, case.evaluation, case.health)
    unmet_verdicts = [verdict for verdict in judge_criteria(run) if verdict.status in ("at_risk", "fail")]
    if not unmet_verdicts:
        return None
    worst = next((verdict for verdict in unmet_verdicts if verdict.status == "fail"), unmet_verdicts[0])
    is_decided = (
        worst.status == "fail" and run.trained_fully and any(verdict.name != COMPLETED for verdict in unmet_verdicts)
    )
    kind = case.config.criteria[worst.name].kind if worst.name in case.config.criteria else COMPLETED
    return Finding(
        confidence=MISSED if is_decided else AT_RISK,
        sentence=". ".join(f"Criterion {v.name} {_WORDS[v.status]}: {v.sentence.rstrip('.')}" for v in unmet_verdicts)
        + ".",
        evidence={v.name: {"status": v.status, "needed": v.needed, "seen": v.seen} for v in unmet_verdicts},
        action=_ACTIONS.get(
            kind, "Compare the run with its plan: `giblet launch --dry-run` prints its learning rates."
        ),
    )


MISSED, AT_RISK = 0.9, 0.45
"""Confidence for a run that trained to its end, and for one that is live or was stopped on request."""
_WORDS = {"fail": "is not met", "at_risk": "is at risk"}
_ACTIONS = {
    COMPLETED: "Resume it to its last epoch, or accept this in a promotion: --accept completed --note WHY.",
    "loss_drop": "Train longer, raise learning_rate, or judge it on what can be explained (scale: explainable).",
    "val_gap": "Use more dropout, weight decay or data, or stop early: held-out data fit worse than training data.",
    "no_dominance": "Lower the weight of that component, or balance the losses (balance.kind: gradnorm).",
    "beats_null": "Check alignment and scans (`giblet data check NODE CONFIG`), then regularise more.",
    "beats_mean": "Regularise more, or use more data: held-out data are predicted no better than by the mean.",
    "reconstruction_skill": "Regularise more, or use more data: held-out stimuli are no better than the mean.",
    "validation_improves": "Use more regularisation, or a lower learning_rate.",
}


def _loss_curve(case: RunHistory, plan: LrSchedule, split: str) -> Points:
    """Return (epochs passed, loss) after the warm-up."""
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
    lowest_drop = 1 - min(v for _, v in points) / start
    if max(at_best, lowest_drop) >= MARGIN * criterion.threshold:
        return None
    return Finding(
        confidence=0.75,
        sentence=(
            f"{name} requires {-criterion.threshold:+.0%}; the {criterion.split} loss is at {-lowest_drop:+.1%}, and "
            f"its course reaches {-at_best:+.1%} at best by epoch {case.config.num_epochs}."
        ),
        evidence={"criterion": name, "needed": criterion.threshold, "seen": lowest_drop, "at_best": at_best},
        action="Judge it on what can be explained (scale: explainable): noise cannot be learnt.",
    )
