"""Rules for held-out data: overfitting, leaks, and predictions no better than chance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

from giblet_train.diagnosis.rules.case import Finding, RunHistory, median_or_none
from giblet_train.diagnosis.rules.metric_course import metric_overfits
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter, median_error, smoothed
from giblet_train.diagnosis.rules.registry import SHORT_WARMUP, UNREGULARISED, WARN_ONLY, fault, rule
from giblet_train.diagnosis.run_start import format_loss
from giblet_train.schema.records import DataMetric, EpochMetric

FEWEST_OVERFIT = 3
SIGNED_SCALE = 1.0
"""Smallest scale of a loss that is not always positive: a Dice loss, a correlation, nats. Its level may be near 0."""
SIGNED_SHARE = 0.2
"""Smallest fall, relative to the best loss, that is a scale for losses that are not always positive."""
FEWEST_ALONE = 6
RISE_ALONE = 0.3
"""Validations, and rise relative to the best, from which a validation loss without a training loss is reported."""
WINDOW = 3
"""Validations whose median is compared."""
FALLS_AGAIN = 0.15
"""Share of a rise that validation may have lost again, and still be overfitting."""
EARLY_RISE = 0.6
"""Share of the limit from which a rise is reported as tentative."""
RISE_ERRORS = 3.5
"""Standard errors of a median that a rise of validation must exceed; the best of many is low by chance."""
USUAL_VALIDATIONS = 60
"""Validations up to which RISE_ERRORS suffice."""
CERTAIN_ERRORS = 6.0
"""The same for certainty at the last epoch."""
SEVERE_RISE = 8.0
"""Multiple of the limit from which a rise is no longer thought to be the start of a double descent."""
CERTAIN_VALIDATIONS = 8
"""Validations after which held-out data that are not predicted are no longer thought to be a slow beginning."""
RECENT_R = 12
LEAK_VALIDATIONS = 4
MEAN_VALIDATIONS = 3
LEARNT = 0.025
SKILL_DOUBT = 0.005
RISE_SKILL = 0.1
"""Rise of a skill below 0, relative to its first value, that shows that a louder held-out block is learnt."""
FIRST_EPOCHS = 3
"""Epochs whose median is the start of a training loss: the first one alone may hold the way to the mean."""
R_DOUBT = 0.02
"""Held-out r of fMRI below which nothing is predicted: responsive voxels show more from the first epoch on."""
WEAK_R = 0.07
"""Held-out r below which half a per cent of the variance is explained."""
FEWEST_R = 12
"""Epochs of a log with an r from which a weak one is reported."""
SAME_AS_TRAINING = 2e-4
"""Relative difference of a log's totals below which they are of the same data, if it lasts."""


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
    """Report validation that has turned and keeps rising while training continues to fall.

    Medians of windows are compared, with the noise of the validations, and a validation that falls again is left alone.
    """
    epochs = [e for e, _ in case.validation_totals]
    values = [v for _, v in case.validation_totals]
    train = dict(case.train_totals)
    if case.log is not None and case.log.validation_only and not case.steps:
        return _only_validation_rises(case)
    if len(values) < FEWEST_OVERFIT:
        return metric_overfits(case)
    width = WINDOW if len(values) >= 2 * WINDOW else 1
    levels = smoothed(values, width)
    best_index = min(range(len(levels)), key=levels.__getitem__)
    best, since = levels[best_index], levels[best_index + 1 :]
    if len(since) < 2 or not _better_than_start(case, best):
        return None
    rise, noise = (min(since[-2:]) if width == 1 else since[-1]) - best, jitter(values)
    scale, of = _scale(values, best)
    limit = case.watch.overfit_rise * scale * (2 if _will_stop(case) else 1)
    best_epoch, last_epoch = epochs[best_index], epochs[-1]
    falls = train.get(last_epoch, math.inf) < train.get(best_epoch, -math.inf)
    error = _rise_errors(len(levels)) * median_error(noise, width)
    if rise < max(EARLY_RISE * limit, error) or not falls or case.stopped_early:
        return None
    again = 2 * RISE_ERRORS * median_error(noise, width) / 3 + scale * SKILL_DOUBT
    if max(since) - since[-1] > max(again, FALLS_AGAIN * rise):
        return None
    is_clear = rise >= max(limit, CERTAIN_ERRORS * median_error(noise, width))
    severe = rise >= SEVERE_RISE * limit or (is_clear and last_epoch >= (case.num_epochs or math.inf))
    return Finding(
        confidence=0.9 if severe else TENTATIVE,
        sentence=(
            f"{'Validation' if width == 1 else f'The median of {width} validations'} was best at epoch {best_epoch} "
            f"({format_loss(best)}) and has since risen by {rise / scale:.1%}{of} to {format_loss(best + rise)}"
            f"{' or more' if width == 1 else ''}, while training fell to {format_loss(train[last_epoch])}."
        ),
        evidence={"best_epoch": best_epoch, "best": best, "rise": rise / scale, "noise": noise, "epoch": last_epoch},
        action="Keep the best checkpoint; set early_stopping_patience, more dropout or weight decay, or more data.",
    )


def _only_validation_rises(case: RunHistory) -> Finding | None:
    """Report, as a doubt, a validation loss that rises although a log prints no training loss next to it."""
    totals = case.train_totals  # the reader puts the only loss of a log there
    values = [value for _, value in totals]
    if len(values) < FEWEST_ALONE or min(values) <= 0 or case.stopped_early:
        return None
    levels = smoothed(values, WINDOW)
    best_index = min(range(len(levels)), key=levels.__getitem__)
    best, last = levels[best_index], levels[-1]
    error = CERTAIN_ERRORS * median_error(jitter(values), WINDOW)
    if last - best < max(RISE_ALONE * best, error) or len(levels) - best_index <= WINDOW:
        return None
    return Finding(
        confidence=TENTATIVE,
        sentence=(
            f"The validation loss was best near epoch {totals[best_index][0]} ({format_loss(best)}) and has risen "
            f"to {format_loss(last)} (medians of {WINDOW}). No training loss is printed: if it still falls, this is "
            "overfitting; if it rises too, the training diverges."
        ),
        evidence={"best_epoch": totals[best_index][0], "best": best, "rise": last / best - 1, "epoch": totals[-1][0]},
        action="Print the training loss as well; keep the best checkpoint, and stop early or regularise more.",
    )


def _rise_errors(n: int) -> float:
    """Return the standard errors that a rise from the best of n medians must exceed: the best of more is lower."""
    return RISE_ERRORS + max(0.0, math.sqrt(2 * math.log(n)) - math.sqrt(2 * math.log(USUAL_VALIDATIONS)))


def _scale(values: Sequence[float], best: float) -> tuple[float, str]:
    """Return what a rise is compared with, and words for it: the best loss; if some are not positive, their fall."""
    if min(values) > 0:
        return best, ""
    return max(values[0] - best, SIGNED_SHARE * abs(best)) or 1.0, " of its fall"


def _will_stop(case: RunHistory) -> bool:
    """Return True if early stopping is on its way: then it waits for a small rise."""
    return case.config is not None and case.config.early_stopping_patience is not None and case.run is not None


def _better_than_start(case: RunHistory, best: float) -> bool:
    if not case.begins_at_start:
        return True
    first = case.validation_totals[0][1]
    start = max(case.start_total or first, first)
    return best < start - abs(start) * SKILL_DOUBT or abs(best - first) <= abs(first) * SKILL_DOUBT


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
    """Report that held-out data are trained on: by the split, or because the losses equal those of training."""
    if case.data is not None and case.data.shared_trs:
        return _shared(case.data)
    pairs = [e for e in case.epochs if e.validation and e.validation.total is not None][-LEAK_VALIDATIONS:]
    if len(pairs) < LEAK_VALIDATIONS:
        return None
    worst = max(_difference(e) for e in pairs)
    if worst == 0.0 and case.log is not None and not case.steps:
        return _equal_in_log(pairs)
    has_components = bool(pairs[-1].train.loss)
    if worst > (case.watch.leak_tolerance if has_components else SAME_AS_TRAINING):
        return None
    # Names next to the losses of a log may be those of a summary, not of components.
    is_total = not has_components or (case.log is not None and not case.steps)
    if is_total and not _has_learnt(case):
        return None
    return Finding(
        confidence=0.95,
        sentence=(
            f"Validation equals training within {worst:.1e} at each of the last {len(pairs)} epochs: it uses the "
            "training data."
        ),
        evidence={"difference": worst, "epochs": len(pairs), "fmri_r": pairs[-1].fmri_r},
        action="Check the split: blocks must not overlap, with split.gap_trs between them.",
    )


def _has_learnt(case: RunHistory) -> bool:
    """Return True if training fell: totals of a model that learns nothing are equal on all data."""
    totals = [v for _, v in case.train_totals]
    return totals[0] - totals[-1] > LEARNT * abs(totals[0])


def _equal_in_log(pairs: Sequence[EpochMetric]) -> Finding:
    """Return the finding for a log that prints the same losses for training and validation."""
    return Finding(
        confidence=TENTATIVE,
        sentence=(
            f"The log prints exactly the same loss for validation and training at each of the last {len(pairs)} "
            "epochs: one number is logged under both names, or both are computed from the same data."
        ),
        evidence={"difference": 0.0, "epochs": len(pairs), "fmri_r": pairs[-1].fmri_r},
        action="Look at what the script logs as validation; then check that its split holds data out.",
    )


def _shared(data: DataMetric) -> Finding:
    return Finding(
        confidence=0.98,
        sentence=(
            f"{data.shared_trs} TRs are both trained on and held out, of {data.validation_trs} for validation and "
            f"{data.test_trs} for the test."
        ),
        evidence={"shared_trs": data.shared_trs, "validation_trs": data.validation_trs, "test_trs": data.test_trs},
        action="Check the split: blocks must not overlap, with split.gap_trs between them.",
    )


def _difference(epoch: EpochMetric) -> float:
    """Return the largest relative difference between validation and training, over total and components."""
    assert epoch.validation is not None
    pairs = [(epoch.train.total, epoch.validation.total)]
    pairs += [(v, epoch.validation.loss.get(c)) for c, v in epoch.train.loss.items()]
    differences = [abs(held_out / train - 1) for train, held_out in pairs if train and held_out is not None]
    return max(differences, default=math.inf)


@rule(
    group="curve",
    explains=(
        "flat",
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
    """Report that training falls while no component is predicted better than by its training mean where held out."""
    skills = [e.validation.skill for e in case.epochs if e.validation and e.validation.skill]
    if not skills and not case.steps:
        return _hardly_predicts(case)
    totals = [v for _, v in case.train_totals]
    if len(skills) < MEAN_VALIDATIONS or not case.start_total or totals[-1] > case.start_total * (1 - LEARNT):
        return None
    means = [_mean_skill(case, skills[i : i + MEAN_VALIDATIONS]) for i in range(len(skills) - MEAN_VALIDATIONS + 1)]
    skill = means[-1]
    if not skill or max(v for mean in means for v in mean.values()) > SKILL_DOUBT or _rises(case, skills):
        return None
    values = ", ".join(f"{c} {v:+.3f}" for c, v in skill.items())
    return Finding(
        confidence=0.88 if len(skills) >= CERTAIN_VALIDATIONS else TENTATIVE,
        sentence=(
            f"Training fell to {format_loss(totals[-1])} of {format_loss(case.start_total)}, but on held-out data "
            f"nothing is predicted better than by its mean: skill {values}."
        ),
        evidence={"skill": skill, "train_total": totals[-1], "validations": len(skills)},
        action="Check the film's alignment with the brain (`python -m giblet_train data lag`), then regularise more.",
    )


def _hardly_predicts(case: RunHistory) -> Finding | None:
    """Report a log whose held-out r stays at a value that explains next to nothing, while its loss stays constant."""
    r = [e.fmri_r for e in case.epochs if e.fmri_r is not None]
    totals = [v for _, v in case.train_totals]
    third = len(r) // 3
    if len(r) < FEWEST_R or len(totals) < FEWEST_R or case.stopped_early:
        return None
    level = median(r[-third:])
    state = totals[len(totals) // 3 :]
    half = len(state) // 2
    before, after = median(state[:half]), median(state[half:])
    noise = 3 * math.sqrt(2) * median_error(jitter(state), half)
    falls = before - after > max(case.watch.flat_change * abs(before), noise)
    if not R_DOUBT < level < WEAK_R or level - median(r[third : 2 * third]) > WEAK_R / 10 or falls:
        return None
    return Finding(
        confidence=0.6,
        sentence=(
            f"The held-out r stays at {level:.3f} (median of the last {third} epochs): {level**2:.2%} of the variance "
            f"is explained, hardly more than by the mean. The training loss has been at {format_loss(after)} for "
            f"{len(state)} epochs."
        ),
        evidence={"fmri_r": level, "train_total": after, "validations": len(r)},
        action="Check the film's alignment with the brain (`python -m giblet_train data lag`), then the learning rate.",
    )


def _rises(case: RunHistory, skills: Sequence[Mapping[str, float | None]]) -> bool:
    """Return True if a component's skill is on its way up: a loud held-out block begins far below 0."""
    for component in case.components:
        values = [v for s in skills if (v := s.get(component)) is not None]
        if _trend(values) > SKILL_DOUBT or _has_risen(values):
            return True
    return False


def _has_risen(values: Sequence[float]) -> bool:
    """Return True if skill has risen far beyond its noise since the first validation, and stayed far below 0."""
    if len(values) <= MEAN_VALIDATIONS:
        return False
    level = fmean(values[-MEAN_VALIDATIONS:])
    rise = level - values[0]
    return rise > max(2 * SKILL_DOUBT, RISE_SKILL * abs(values[0]), RISE_ERRORS * jitter(values)) and level < -rise


def _trend(values: Sequence[float]) -> float:
    """Return the rise from the first half of the values to the second, less two standard errors."""
    half = len(values) // 2
    if half < 1:
        return 0.0
    early, late = values[:half], values[-half:]
    error = math.hypot(_standard_error(early), _standard_error(late)) if half > 1 else 0.0
    return fmean(late) - fmean(early) - 2 * error


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def _mean_skill(case: RunHistory, skills: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    by_component = {c: [v for s in skills if (v := s.get(c)) is not None] for c in case.components}
    return {c: fmean(values) for c, values in by_component.items() if values}


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
    """Report that the film is learnt while held-out brains are never predicted: their mean r is 0 within its error."""
    epochs = [e for e in case.epochs if e.fmri_r is not None and _learns_otherwise(case, e)]
    r = [e.fmri_r for e in epochs if e.fmri_r is not None][-RECENT_R:]
    if "fmri" not in case.components or len(r) < MEAN_VALIDATIONS:
        return None
    mean, error = fmean(r), _standard_error(r)
    if mean > R_DOUBT / 2 + error or mean + error > R_DOUBT or _trend(r) > R_DOUBT / 4 or min(r[-2:]) > R_DOUBT:
        return None
    skill = [v for e in epochs if e.validation and (v := e.validation.skill.get("fmri")) is not None]
    if skill and (fmean(skill[-MEAN_VALIDATIONS:]) > SKILL_DOUBT or _trend(skill) > SKILL_DOUBT):
        return None
    others = epochs[-1].validation.skill if epochs[-1].validation else {}
    film = ", ".join(f"{c} {v:+.3f}" for c, v in others.items() if c != "fmri" and v is not None)
    fell = f"held-out skill {film}" if film else f"the training loss fell to {format_loss(epochs[-1].train.total or 0)}"
    return Finding(
        confidence=0.85 if len(r) >= CERTAIN_VALIDATIONS else TENTATIVE,
        sentence=(
            f"No brain is predicted: the held-out r of fMRI is {mean:+.4f} ± {error:.4f} over {len(r)} validations, "
            f"while all else is learnt ({fell}). The total falls all the same."
        ),
        evidence={"fmri_r": r[-1], "mean": mean, "error": error, "validations": len(r), "skill": dict(others)},
        action=(
            "Check that the scans are of this film, in register and not noise (`python -m giblet_train data check`, "
            "`data lag`); then fmri_weight and data.mask."
        ),
    )


def _learns_otherwise(case: RunHistory, epoch: EpochMetric) -> bool:
    """Return True if reconstruction improved by then; for logs without skill, if the training loss fell."""
    skill = epoch.validation.skill if epoch.validation else {}
    if skill:
        return max((v for c, v in skill.items() if c != "fmri" and v is not None), default=0.0) > LEARNT
    start = case.start_total or median_or_none([v for _, v in case.train_totals[:FIRST_EPOCHS]])
    total = epoch.train.total
    if start is None or total is None:
        return False
    return start - total > LEARNT * (start if min(start, total) > 0 else max(SIGNED_SCALE, abs(start)))
