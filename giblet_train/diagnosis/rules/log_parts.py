"""Parts of the loss in the log of another program: which one hides the others, and which one collapsed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from giblet_train.diagnosis.log_reader.loss_parts import part_weights
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter
from giblet_train.diagnosis.rules.registry import rule
from giblet_train.diagnosis.run_start import format_loss
from giblet_train.schema.config import COMPONENTS

FEWEST_EPOCHS = 6
CERTAIN = 0.85
"""Confidence in a part that hides the others and is as large as only a unit makes it."""
STUCK = 0.05
"""Relative decrease below which a part has learnt nothing."""
STILL = 0.02
"""Relative change of the other parts below which they do not change."""
DIVERGENCES = frozenset({"kl", "kld", "kldiv", "kl_div", "kl_divergence"})
"""Names of a divergence from a prior, which is 0 if the encoder ignores its input."""
REGULARISERS = frozenset(
    (
        *("commit", "commitment", "codebook", "vq", "aux", "entropy", "prior", "tv", "reg", "regularization"),
        *("regularizer", "regulariser", "regularisation", "penalty", "balance", "balancing", "load", "router", "z"),
        *("ortho", "orthogonal", "orthogonality", "decay", "sparsity", "sparse", "wd", "smoothness"),
        *("l1", "l2", "kl", "kld", "kldiv"),
    )
)
"""Words of the names of parts that are small by intention, and need not fall."""
COLLAPSED = 1e-3
"""Divergence below which nothing passes from the encoder to the decoder, if it is that small next to the others too."""
SMALL = 0.05
"""Share of the total below which a part that is constant from the first epoch is taken for a regulariser."""
SUDDEN_EPOCHS = 2
"""Epochs within which a part falls to 0 that is cut off; one that is learnt takes longer."""
FELL_FAR = 0.01
"""Level of a part, relative to its highest, after a collapse."""

Courses = Mapping[str, Sequence[float]]


class HidingPart(NamedTuple):
    """A part of the loss next to which the others hardly count, and have learnt nothing."""

    name: str
    ratio: float
    """Its first values divided by those of the next largest part."""
    sentence: str
    confidence: float
    """Tentative if the others are small as a regulariser is: those are constant in a healthy training too."""


def hiding_part(case: RunHistory, least_ratio: float, most_ratio: float = math.inf) -> HidingPart | None:
    """Return a part that hides the others; None without one.

    The others must have learnt nothing: parts of very different size do no harm while all of them fall. Only parts
    whose weights are known are compared, because a printed part may be multiplied by any number.

    Args:
        least_ratio: smallest ratio of the first values that counts.
        most_ratio: ratio from which another rule reports it.
    """
    main_parts = {name: values for name, values in _courses(case).items() if not _is_regulariser(name)}
    if any(min(values) <= 0 for values in main_parts.values()):
        return None
    courses = _without_constants(main_parts, case.watch.unit_free_total)
    if len(courses) < 2:
        return None
    starts = {name: median(values[:3]) for name, values in courses.items()}
    largest = max(starts, key=lambda name: starts[name])
    others = {name: values for name, values in courses.items() if name != largest}
    ratio = starts[largest] / max(starts[name] for name in others)
    if not least_ratio <= ratio < most_ratio or not all(_is_stuck(values) for values in others.values()):
        return None
    texts = ", ".join(
        f"{name} went from {format_loss(starts[name])} to {format_loss(median(values[-3:]))}"
        for name, values in others.items()
    )
    sentence = (
        f"{largest} starts at {format_loss(starts[largest])}, {ratio:,.0f} times the next largest part of the loss, "
        f"and the others have learnt nothing ({texts})."
    )
    has_unit = starts[largest] >= case.watch.unit_free_total
    return HidingPart(largest, ratio, sentence, CERTAIN if has_unit else TENTATIVE)


@rule(group="numbers", explains=("curve", "loss_not_unit_free"))
def component_collapsed(case: RunHistory) -> Finding | None:
    """Report a part of a log's loss that went to 0 while the others did not change, as in posterior collapse."""
    parts = {c: [e.train.loss.get(c) for e in case.epochs] for c in _names(case)}
    courses = {c: [v for v in values if v is not None] for c, values in parts.items()}
    complete = {c: values for c, values in courses.items() if len(values) == len(case.epochs) >= FEWEST_EPOCHS}
    for name, values in complete.items():
        others = {c: v for c, v in complete.items() if c != name}
        finding = _collapse(name, values, others, [v for _, v in case.train_totals]) if others else None
        if finding is not None:
            return finding
    return None


def _collapse(name: str, values: Sequence[float], others: Courses, totals: Sequence[float]) -> Finding | None:
    third = len(values) // 3
    last, highest = median(values[-third:]), max(values)
    size = max(abs(median(course[-third:])) for course in others.values())
    is_gone = 0 <= last < COLLAPSED and last < COLLAPSED * size and max(values[-third:]) < COLLAPSED
    are_constant = all(_is_constant(course[-2 * third :]) for course in (*others.values(), totals) if course)
    fell_far = last < FELL_FAR * highest
    is_divergence = name in DIVERGENCES
    if not is_divergence and (_is_regulariser(name) or not _fell_at_once(values)):
        return None
    if not is_gone or not (are_constant or (is_divergence and fell_far)) or not (fell_far or is_divergence):
        return None
    began = f"fell from {format_loss(highest)} to {last:.1e}" if fell_far else f"is {last:.1e}"
    texts = ", ".join(f"{c} at {format_loss(median(course[-third:]))}" for c, course in others.items())
    meaning = ": the posterior has collapsed, and the decoder ignores the latent variables" if is_divergence else ""
    return Finding(
        confidence=(0.85 if are_constant else 0.6) if is_divergence else TENTATIVE,
        sentence=f"{name} {began}{', while the others did not change' if are_constant else ''} ({texts}){meaning}.",
        evidence={"component": name, "highest": highest, "last": last},
        action=(
            f"Raise the weight of {name} slowly from 0, set a floor for it (free bits), or weaken the decoder."
            if is_divergence
            else f"Check what {name} is computed from: a loss of 0 on real data is seldom meant."
        ),
    )


def _is_regulariser(name: str) -> bool:
    words = set(name.split("_"))
    return "cross" not in words and bool(words & REGULARISERS or name in DIVERGENCES)


def _without_constants(courses: Courses, unit_free_total: float) -> Courses:
    """Leave out small parts that never change, as regularisers; next to a part with a unit they may be hidden."""
    starts = {name: median(values[:3]) for name, values in courses.items()}
    least = SMALL * sum(starts.values())
    if max(starts.values(), default=0.0) >= unit_free_total:
        return courses
    return {name: values for name, values in courses.items() if starts[name] > least or not _is_constant(values)}


def _fell_at_once(values: Sequence[float]) -> bool:
    """Return True if a part was cut off within few epochs."""
    highest = max(values)
    if highest <= 0:
        return False
    last_high = max(i for i, value in enumerate(values) if value >= highest / 2)
    return max(values[last_high + SUDDEN_EPOCHS :], default=highest) < FELL_FAR * highest


def _names(case: RunHistory) -> list[str]:
    """Return the names of the parts that a log prints, if they are not those of giblet."""
    if case.config is not None or case.steps:
        return []
    names = list(dict.fromkeys(name for epoch in case.epochs for name in epoch.train.loss))
    return [] if set(names) <= set(COMPONENTS) else names


def _courses(case: RunHistory) -> dict[str, list[float]]:
    """Return what each part contributes to the total in every epoch; empty if the weights are not known."""
    names = _names(case)
    rows = [
        (epoch.train.total, {c: v for c, v in epoch.train.loss.items() if v is not None})
        for epoch in case.epochs
        if epoch.train.total is not None
    ]
    if not names or len(rows) < FEWEST_EPOCHS:
        return {}
    is_sum = case.log is not None and bool(case.log.summed_parts)
    weights = dict.fromkeys(names, 1.0) if is_sum else part_weights(rows)
    if not weights or any(name not in parts for _, parts in rows for name in weights):
        return {}
    return {name: [weight * parts[name] for _, parts in rows] for name, weight in weights.items()}


def _is_stuck(values: Sequence[float]) -> bool:
    third = len(values) // 3
    first, last = median(values[:3]), median(values[-third:])
    return last > (1 - STUCK) * first


def _is_constant(values: Sequence[float]) -> bool:
    half = len(values) // 2
    before, after = median(values[:half]), median(values[half:])
    return abs(before - after) <= max(STILL * abs(before), 3 * jitter(values))
