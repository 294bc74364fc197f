"""Rules for the units of losses: first values, differences between components, and dominance of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import geometric_mean, median

from giblet_train.diagnosis.rules.case import Finding, RunHistory, median_or_none
from giblet_train.diagnosis.rules.log_parts import hiding_part
from giblet_train.diagnosis.rules.noise import TENTATIVE
from giblet_train.diagnosis.rules.registry import SHORT_WARMUP, WARN_ONLY, fault, rule
from giblet_train.diagnosis.run_start import format_loss

FIRST_STEPS = 5
FEWEST_SHARES = 3
JUDGED_SHARES = 20
FEWEST_EPOCHS = 4
HIDES = 10.0
"""Ratio of parts from which the largest dominates, if the others learn nothing."""
LEARNS = 0.1
"""Relative decrease from which a total is learnt, whatever its unit."""
CONSTANT_DIGITS = 5
"""Significant digits from which a repeated loss is constant, and not only rounded."""
UNMEASURED_STEPS = 200
"""Steps after which the share of the loss alone counts, if no gradient share was ever measured."""


@rule(
    group="scale",
    explains=(
        "curve",
        "component_dominates",
        "loss_not_unit_free",
        "scale_mismatch",
    ),
    fault=fault(
        "codes",
        "the audio's targets are codes from 0 to 1023, under a squared error",
        **WARN_ONLY,
        losses__scale="none",
    ),
)
def categorical_targets(case: RunHistory) -> Finding | None:
    """Report a component whose targets are category numbers, trained with a squared error."""
    facts = case.data.components if case.data else {}
    component = next((c for c, f in facts.items() if f.looks_categorical and c in case.components), None)
    if component is None:
        return None
    fact, starts = facts[component], first_losses(case)
    return Finding(
        confidence=0.97,
        sentence=(
            f"The targets of {component} look like categorical codes (whole numbers from {fact.raw_min:g} to "
            f"{fact.raw_max:g}); a squared error between codes means nothing{_share_of_start(case, component, starts)}."
            if fact.raw_min is not None and fact.raw_max is not None
            else f"The targets of {component} look like categorical codes; a squared error between codes means nothing."
        ),
        evidence={
            "component": component,
            "raw_min": fact.raw_min,
            "raw_max": fact.raw_max,
            "raw_sd": fact.raw_sd,
            "first_loss": starts.get(component),
        },
        action=f"Give {component} continuous targets (log-mel for sound), or a cross-entropy over its codes "
        f"(data.features.{component}.codes).",
    )


@rule(
    group="scale",
    explains=(
        "curve",
        "component_dominates",
        "loss_not_unit_free",
    ),
    fault=fault(
        "scale",
        "raw scanner units against z-scored features, without division by the variance",
        **WARN_ONLY,
        data__normalize_fmri=False,
        losses__scale="none",
    ),
)
def scale_mismatch(case: RunHistory) -> Finding | None:
    """Report components whose losses start orders of magnitude apart, so that one hides the others."""
    starts = first_losses(case) or _first_epoch_losses(case)
    if len(starts) < 2:
        return _mismatch_in_log(case)
    if case.config and case.config.losses.scale == "std":
        return None
    farthest = max(starts, key=lambda c: starts[c] / geometric_mean([v for o, v in starts.items() if o != c]))
    others = median([v for c, v in starts.items() if c != farthest])
    ratio = starts[farthest] / others
    if ratio < case.watch.scale_ratio:
        return None
    fact = case.data.components.get(farthest) if case.data else None
    return Finding(
        confidence=0.95,
        sentence=(
            f"{farthest} starts at {format_loss(starts[farthest])}, {ratio:,.0f} times the others "
            f"({format_loss(others)}){_share_of_start(case, farthest, starts)}."
        ),
        evidence={
            "component": farthest,
            "first_loss": starts,
            "ratio": ratio,
            "raw_mean": fact.raw_mean if fact else None,
            "sd_after_normalisation": fact.sd if fact else None,
        },
        action=(
            f"Standardise {farthest} from its training TRs"
            f"{' (data.normalize_fmri: true)' if farthest == 'fmri' else ''} and divide every loss by its training "
            "variance (losses.scale: variance)."
        ),
    )


@rule(
    group="scale",
    explains=(
        "curve",
        "component_dominates",
    ),
    fault=fault(
        "units", "the video's loss is divided by its standard deviation, which is 6", **WARN_ONLY, losses__scale="std"
    ),
)
def loss_not_unit_free(case: RunHistory) -> Finding | None:
    """Report a loss for which the best constant does not score 1: its size depends on a unit."""
    starts = first_losses(case)
    if not starts:
        return _total_not_unit_free(case)
    factor = case.watch.unit_factor
    off = {c: v for c, v in starts.items() if not 1 / factor <= v <= factor}
    if not off:
        return None
    farthest = max(off, key=lambda c: max(off[c], 1 / off[c]))
    scale = case.config.losses.scale if case.config else "unknown"
    return Finding(
        confidence=0.92,
        sentence=(
            f"{farthest} starts at {format_loss(off[farthest])} where the best constant should score 1: the loss "
            f"carries its data's unit (losses.scale: {scale})."
        ),
        evidence={"component": farthest, "first_loss": starts, "losses_scale": scale},
        action="Divide each loss by its training variance (losses.scale: variance): 1 is then the best constant.",
    )


@rule(
    group="scale",
    explains=("curve",),
    fault=fault(
        "dominance",
        "the audio's weight is ten thousand times the others'",
        **SHORT_WARMUP,
        fmri_weight=0.001,
        video_weight=0.001,
        text_weight=0.001,
        audio_weight=10.0,
    ),
)
def component_dominates(case: RunHistory) -> Finding | None:
    """Report a component with nearly all of the weighted loss and of the gradient after the warm-up."""
    if not case.steps:
        return _dominates_epochs(case)
    after = case.plan.warmup_steps if case.plan else 0
    warm = [s for s in case.steps if s.step >= after]
    measured = [s for s in warm if s.gradient_share][-JUDGED_SHARES:]
    judged_steps = measured or (warm[-JUDGED_SHARES:] if len(warm) >= UNMEASURED_STEPS else [])
    if len(judged_steps) < FEWEST_SHARES or len(case.components) < 2:
        return None
    loss = _medians(case, [s.share for s in judged_steps])
    gradient = _medians(case, [s.gradient_share or {} for s in measured]) if measured else loss
    component = max(case.components, key=lambda c: min(loss[c], gradient[c]))
    if min(loss[component], gradient[component]) <= case.watch.dominance_share:
        return None
    return Finding(
        confidence=0.9 if measured else 0.6,
        sentence=(
            f"{component} is {loss[component]:.1%} of the weighted loss"
            + (f" and {gradient[component]:.1%} of the gradient" if measured else "")
            + "; the others hardly count."
        ),
        evidence={
            "component": component,
            "share": loss[component],
            "gradient_share": gradient[component] if measured else None,
            "weight": judged_steps[-1].weight.get(component),
            "measured": len(measured),
        },
        action=f"Lower the weight of {component}, or balance the losses (balance.kind: gradnorm).",
    )


def _dominates_epochs(case: RunHistory) -> Finding | None:
    """Report the same from the components that a log prints per epoch, where no gradient is known."""
    hiding = hiding_part(case, HIDES, case.watch.scale_ratio)
    if hiding is not None:
        return Finding(
            confidence=min(hiding.confidence, 0.6),
            sentence=hiding.sentence,
            evidence={"component": hiding.name, "ratio": hiding.ratio, "gradient_share": None},
            action=f"Lower the weight of {hiding.name}, or raise those of the others.",
        )
    weights = case.config.component_weights() if case.config else dict.fromkeys(case.components, 1.0)
    own = [{c: v for c, v in e.train.loss.items() if c in weights and v is not None} for e in case.epochs]
    losses = [loss for loss in own if sum(v > 0 for v in loss.values()) > 1]
    if len(losses) < FEWEST_EPOCHS:
        return None
    weighted = [{c: weights[c] * v for c, v in loss.items()} for loss in losses[-JUDGED_SHARES:]]
    shares = [{c: v / total for c, v in terms.items()} for terms in weighted if (total := sum(terms.values())) > 0]
    components = [c for c in case.components if any(c in share for share in shares)]
    medians = {c: median(share.get(c, 0.0) for share in shares) for c in components}
    component = max(components, key=lambda c: medians[c], default=None)
    if component is None or medians[component] <= case.watch.dominance_share:
        return None
    return Finding(
        confidence=0.6,
        sentence=f"{component} is {medians[component]:.1%} of the loss in the last {len(shares)} epochs.",
        evidence={"component": component, "share": medians[component], "gradient_share": None, "epochs": len(shares)},
        action=f"Lower the weight of {component}, or balance the losses (balance.kind: gradnorm).",
    )


def _medians(case: RunHistory, shares: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    return {c: median(share.get(c) or 0.0 for share in shares) for c in case.components}


def first_losses(case: RunHistory) -> dict[str, float]:
    """Return each weighted component's loss before training, as measured or else from the first steps."""
    measured: Mapping[str, float | None] = case.run.first_loss if case.run else {}
    starts = {c: measured.get(c) for c in case.components}
    if not any(starts.values()) and len(case.steps) >= FIRST_STEPS and case.steps[0].step == 0:
        starts = {c: median_or_none([s.loss.get(c) for s in case.steps[:FIRST_STEPS]]) for c in case.components}
    return {c: v for c, v in starts.items() if v is not None and v > 0}


def _mismatch_in_log(case: RunHistory) -> Finding | None:
    """Report the same from the parts that the log of another program prints."""
    hiding = hiding_part(case, case.watch.scale_ratio)
    if hiding is None:
        return None
    return Finding(
        confidence=hiding.confidence,
        sentence=hiding.sentence,
        evidence={"component": hiding.name, "ratio": hiding.ratio},
        action=f"Standardise the targets of {hiding.name}, or divide each part by its variance: all are then near 1.",
    )


def _first_epoch_losses(case: RunHistory) -> dict[str, float]:
    """Return each component's loss in the first epoch of a log; empty if the log begins later."""
    if case.steps or not case.epochs or case.epochs[0].epoch > 1:
        return {}
    return {c: v for c, v in case.epochs[0].train.loss.items() if c in case.components and v is not None and v > 0}


def _total_not_unit_free(case: RunHistory) -> Finding | None:
    """Report, from the total alone, a loss far above any unit-free sum that hardly decreases."""
    totals = case.train_totals
    if len(totals) < FEWEST_EPOCHS:
        return None
    (first_epoch, first), (epoch, last) = totals[0], totals[-1]
    if first < case.watch.unit_free_total or _is_constant([value for _, value in totals]):
        return None
    if abs(1 - last / first) > min(LEARNS, case.watch.flat_change * (epoch - first_epoch)):
        return None
    begin = "starts" if case.begins_at_start else "is first seen"
    return Finding(
        confidence=0.88 if case.begins_at_start else TENTATIVE,
        sentence=(
            f"The training loss {begin} at {format_loss(first)}; terms in units of their variance would add up to a "
            f"few. It changed by {last / first - 1:+.2%} in {epoch - first_epoch} epochs: its size depends on a unit."
        ),
        evidence={"first_total": first, "last_total": last, "epochs": epoch - first_epoch, "fall": 1 - last / first},
        action="Log each component; divide each by its training variance, so that 1 is the best constant.",
    )


def _is_constant(values: Sequence[float]) -> bool:
    """Return True if a loss is the same to the last of many digits: no scale hides that, the weights do not move."""
    return len(set(values)) == 1 and len(f"{values[0]:.9g}".replace(".", "").strip("-0")) >= CONSTANT_DIGITS


def _share_of_start(case: RunHistory, component: str, starts: Mapping[str, float]) -> str:
    weights = case.config.component_weights() if case.config else dict.fromkeys(starts, 1.0)
    total = sum(weights[c] * v for c, v in starts.items())
    if component not in starts or not total:
        return ""
    return f"; it is {weights[component] * starts[component] / total:.2%} of the first total"
