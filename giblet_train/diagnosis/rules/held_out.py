"""What is held out against what is trained on: overfitting, leaks, and what is predicted no better than by chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from giblet_train.diagnosis.rules.case import Finding, RunHistory, format_loss
from giblet_train.diagnosis.rules.registry import SHORT_WARMUP, UNREGULARISED, WARN_ONLY, fault, rule
from giblet_train.schema.records import DataMetric, EpochMetric

LEAK_VALIDATIONS = 4
MEAN_VALIDATIONS = 3
LEARNT = 0.025
SKILL_DOUBT = 0.005
R_DOUBT = 0.02
"""A mean held-out r of fMRI below this is none: voxels that answer the film show more from the first epoch on."""
SAME_AS_TRAINING = 2e-4
"""Log totals that agree this well, relatively, epoch after epoch, are of the same data."""


@rule(
    group="curve",
    explains=(
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault(
        "overfit",
        "nothing regularises",
        **SHORT_WARMUP,
        **UNREGULARISED,
        learning_rate=3e-3,
        num_epochs=60,
        scheduler_type="none",
    ),
)
def overfit(case: RunHistory) -> Finding | None:
    """Validation has turned and risen while training goes on falling."""
    held, train = case.validation_totals, dict(case.train_totals)
    if len(held) < 3:
        return None
    best_epoch, best = min(held, key=lambda item: item[1])
    since = [v for e, v in held if e > best_epoch]
    if len(since) < 2 or best <= 0 or not _better_than_start(case, best):
        return None
    rise = min(since[-2:]) / best - 1
    falls = train.get(held[-1][0], math.inf) < train.get(best_epoch, -math.inf)
    limit = case.watch.overfit_rise * (2 if _will_stop(case) else 1)
    if rise < limit or not falls or any(e.name == "early_stop" for e in case.events):
        return None
    return Finding(
        confidence=0.9,
        sentence=(
            f"Validation was best at epoch {best_epoch} ({format_loss(best)}) and has risen by {rise:.1%} since, while "
            f"training fell to {format_loss(train[held[-1][0]])}."
        ),
        evidence={"best_epoch": best_epoch, "best": best, "rise": rise, "epoch": held[-1][0]},
        action="Keep the best checkpoint; set early_stopping_patience, more dropout or weight decay, or more data.",
    )


def _will_stop(case: RunHistory) -> bool:
    """Is early stopping on its way to end this? Then a small rise is what it waits for."""
    return case.config is not None and case.config.early_stopping_patience is not None and case.run is not None


def _better_than_start(case: RunHistory, best: float) -> bool:
    first = case.validation_totals[0][1]
    start = max(case.start_total or 0.0, first)
    return best < start * (1 - SKILL_DOUBT) or best == first


@rule(
    group="data",
    explains=(
        "overfit",
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault("leak", "validation uses the training TRs", **WARN_ONLY),
)
def leak(case: RunHistory) -> Finding | None:
    """What is held out is trained on: the split says so, or the losses are training's own, component by component."""
    if case.data is not None and case.data.shared_trs:
        return _shared(case.data)
    pairs = [e for e in case.epochs if e.validation and e.validation.total is not None][-LEAK_VALIDATIONS:]
    if len(pairs) < LEAK_VALIDATIONS:
        return None
    worst = max(_difference(e) for e in pairs)
    tolerance = case.watch.leak_tolerance if pairs[-1].train.loss else SAME_AS_TRAINING
    if worst > tolerance:
        return None
    return Finding(
        confidence=0.95,
        sentence=(
            f"Validation equals training within {worst:.1e} at each of the last {len(pairs)} epochs: it is held on the "
            "data that is trained on."
        ),
        evidence={"difference": worst, "epochs": len(pairs), "fmri_r": pairs[-1].fmri_r},
        action="Check the split: blocks must not overlap, with split.gap_trs between them.",
    )


def _shared(data: DataMetric) -> Finding:
    return Finding(
        confidence=0.98,
        sentence=(
            f"{data.shared_trs} TRs are trained on and held out as well, of {data.validation_trs} for validation and "
            f"{data.test_trs} for the test."
        ),
        evidence={"shared_trs": data.shared_trs, "validation_trs": data.validation_trs, "test_trs": data.test_trs},
        action="Check the split: blocks must not overlap, with split.gap_trs between them.",
    )


def _difference(epoch: EpochMetric) -> float:
    """The largest relative difference between validation and training, over total and known components."""
    assert epoch.validation is not None
    pairs = [(epoch.train.total, epoch.validation.total)]
    pairs += [(v, epoch.validation.loss.get(c)) for c, v in epoch.train.loss.items()]
    found = [abs(held / train - 1) for train, held in pairs if train and held is not None]
    return max(found, default=math.inf)


@rule(
    group="curve",
    explains=(
        "overfit",
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault(
        "mean",
        "the network's input is shuffled against film and brain",
        **SHORT_WARMUP,
        **UNREGULARISED,
        learning_rate=3e-3,
    ),
)
def no_better_than_mean(case: RunHistory) -> Finding | None:
    """Training falls, and no component is predicted better than by its training mean where it is held out."""
    skills = [e.validation.skill for e in case.epochs if e.validation and e.validation.skill]
    last = [v for _, v in case.train_totals]
    if len(skills) < MEAN_VALIDATIONS or not case.start_total or last[-1] > case.start_total * (1 - LEARNT):
        return None
    means = [_mean_skill(case, skills[i : i + MEAN_VALIDATIONS]) for i in range(len(skills) - MEAN_VALIDATIONS + 1)]
    skill = means[-1]
    if not skill or max(v for mean in means for v in mean.values()) > SKILL_DOUBT:
        return None
    if max(skill.values()) > max(means[0].values()) + SKILL_DOUBT:  # on its way up
        return None
    said = ", ".join(f"{c} {v:+.3f}" for c, v in skill.items())
    return Finding(
        confidence=0.88,
        sentence=(
            f"Training fell to {format_loss(last[-1])} of {format_loss(case.start_total)}, but held out nothing is "
            f"predicted better than by its mean: skill {said}."
        ),
        evidence={"skill": skill, "train_total": last[-1], "validations": len(skills)},
        action="Check the film's alignment with the brain (`python -m giblet_train data lag`), then regularise more.",
    )


def _mean_skill(case: RunHistory, skills: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    known = {c: [v for s in skills if (v := s.get(c)) is not None] for c in case.components}
    return {c: fmean(values) for c, values in known.items() if values}


@rule(
    group="curve",
    explains=(
        "overfit",
        "plateau",
        "criterion_unreachable",
    ),
    fault=fault("noise", "the scans hold no response of the brain, only noise"),
)
def brain_unexplained(case: RunHistory) -> Finding | None:
    """The loss falls by the film alone: it is rebuilt ever better, and held-out brains have never been predicted."""
    told = [e for e in case.epochs if e.fmri_r is not None and _learns_otherwise(case, e)]
    r = [e.fmri_r for e in told if e.fmri_r is not None]
    if "fmri" not in case.components or len(r) < MEAN_VALIDATIONS or max(r) >= R_DOUBT:
        return None
    if r[-1] > r[0] + R_DOUBT / 2:  # on its way up
        return None
    skill = [v for e in told if e.validation and (v := e.validation.skill.get("fmri")) is not None]
    if skill and fmean(skill[-MEAN_VALIDATIONS:]) > SKILL_DOUBT:
        return None
    others = told[-1].validation.skill if told[-1].validation else {}
    film = ", ".join(f"{c} {v:+.3f}" for c, v in others.items() if c != "fmri" and v is not None)
    fell = f"held-out skill {film}" if film else f"the training loss fell to {format_loss(told[-1].train.total or 0.0)}"
    return Finding(
        confidence=0.85,
        sentence=(
            f"No brain is predicted: the held-out r of fMRI is {r[-1]:+.4f} and was at most {max(r):+.4f} in "
            f"{len(r)} validations, while all else is learnt ({fell}). The total falls all the same."
        ),
        evidence={"fmri_r": r[-1], "most": max(r), "validations": len(r), "skill": dict(others)},
        action=(
            "Check that the scans are of this film, in register and not noise (`python -m giblet_train data check`, "
            "`data lag`); then fmri_weight and data.mask."
        ),
    )


def _learns_otherwise(case: RunHistory, epoch: EpochMetric) -> bool:
    """Is the film rebuilt by then? Where no skill is told, as in a lab's log: has the training total fallen?"""
    skill = epoch.validation.skill if epoch.validation else {}
    if skill:
        return max((v for c, v in skill.items() if c != "fmri" and v is not None), default=0.0) > LEARNT
    start = case.start_total or next((v for _, v in case.train_totals), None)
    return bool(start and epoch.train.total is not None and epoch.train.total < start * (1 - LEARNT))
