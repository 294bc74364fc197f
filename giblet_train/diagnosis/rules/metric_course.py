"""Findings about printed metrics of known direction: next to a loss that says nothing, or instead of losses. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from giblet_train.diagnosis.log_reader.metric_watch import LOG_LIKELIHOOD, MetricCourse
from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.diagnosis.rules.case import Finding, RunHistory
from giblet_train.diagnosis.rules.noise import TENTATIVE, jitter, median_error, smoothed
from giblet_train.diagnosis.run_start import format_loss

FEWEST_POINTS = 8
ERRORS = 5.0
"""Standard errors of a median that a change must exceed."""
LEAST_CHANGE = 0.01
"""Change of a metric, relative to its range, that is none."""
CLEAR_CHANGE = 0.1
"""Change of a metric, relative to its range, that shows learning whatever the loss does."""
VANISHED = 1e-3
"""Loss, relative to its start, that is practically 0."""
LOW, VERY_LOW = 0.6, 0.3
"""Share of a perfect metric above which a constant one may be good, and below which it certainly is not."""
GOOD = 0.9
"""Share of a perfect metric from which a constant one is good."""
OF_FRACTIONS = 1.5
"""Highest value of a metric that is a fraction, and no percentage."""
UNBOUNDED = ("psnr", "is", "inception score", "inception_score")
TURN = 0.1
"""Share of what a validation metric has gained whose loss is reported."""
LIKELY_TURN = 0.3
LAST_POINTS = 3


def metrics_contradict_loss(case: RunHistory) -> Finding | None:
    """Return the finding for a loss that is practically 0 while every metric next to it stays low."""
    losses = [total for _, total in case.train_totals]
    if case.log is None or case.steps or len(losses) < FEWEST_POINTS:
        return None
    start, last = max(losses[:LAST_POINTS]), median(losses[-(len(losses) // 3) :])
    courses = [c for c in case.log.metric_courses if c.rises and len(c.values) >= FEWEST_POINTS]
    courses = [course for course in courses if course.metric not in UNBOUNDED]
    if not 0 <= last < VANISHED * start or not courses or any(_gain(c) != 0 or _level(c) > LOW for c in courses):
        return None
    course = courses[0]
    values = course.values
    return Finding(
        confidence=0.75 if max(map(_level, courses)) <= VERY_LOW else TENTATIVE,
        sentence=(
            f"The training loss fell from {format_loss(start)} to {last:.1e}, but {course.name} stays at "
            f"{format_loss(median(values))} (at first {format_loss(values[0])}): the loss can be minimised without "
            f"learning."
        ),
        evidence={"start": start, "last": last, "metric": course.name, "value": median(values)},
        action=(
            "Look for features that have collapsed to a constant (their standard deviation), targets that are all "
            "equal, or an input that contains its target."
        ),
    )


def judged_courses(log: TrainingLog | None) -> tuple[MetricCourse, ...]:
    """Return the metrics that stand for the losses of a log that prints none; empty for any other log."""
    if log is None or log.rows or log.balanced_rows or log.is_adversarial:
        return ()
    return tuple(course for course in log.metric_courses if len(course.points) >= LAST_POINTS)


def has_improved(log: TrainingLog) -> bool:
    """Return True if a metric of a log shows learning, whatever its losses do."""
    return bool(improved_names(log))


def improved_names(log: TrainingLog) -> tuple[str, ...]:
    """Return the names of the metrics that show learning, whatever the losses do."""
    courses = (course for course in log.metric_courses if len(course.values) >= FEWEST_POINTS)
    return tuple(course.name for course in courses if _gain(course) > 0)


def has_learnt(log: TrainingLog | None, since: float = -math.inf) -> bool:
    """Return True if a metric clearly improves from an epoch on, so that a loss that hardly falls is no fault.

    Not by its first values alone, nor up to a level that a constant output reaches, such as an R2 of 0.
    """
    for course in log.metric_courses if log is not None else ():
        points = tuple(point for point in course.points if point.position >= since)
        late = course._replace(points=points)
        if len(late.values) < FEWEST_POINTS:
            continue
        clear = max(CLEAR_CHANGE * _range(course), ERRORS * jitter(late.values))
        change = _last(late) - _first(late)
        if change > clear and _last(late) > clear if course.rises else -change > clear:
            return True
    return False


def metric_is_nan(case: RunHistory) -> Finding | None:
    """Return the finding for a log without losses whose metric ends as nan."""
    course = next((c for c in judged_courses(case.log) if _ends_as_nan(c)), None)
    if course is None:
        return None
    since = next(p.position for i, p in enumerate(course.points) if not any(map(_is_finite, course.points[i:])))
    return Finding(
        confidence=0.9,
        sentence=f"{_capital(course.name)} is not a number since {since:g}.",
        evidence={"component": course.name, "epoch": since},
        action="Resume from the last good checkpoint with a lower learning rate; look for values that are not finite.",
    )


def metric_is_flat(case: RunHistory) -> Finding | None:
    """Return the finding for a log without losses of which no metric improves."""
    courses = [course for course in judged_courses(case.log) if len(course.values) >= FEWEST_POINTS]
    if not courses or any(map(_is_good, courses)) or any(_gain(course) > 0 for course in courses):
        return None
    course = courses[0]
    gain = _gain(course)
    return Finding(
        confidence=TENTATIVE,
        sentence=(
            f"{_capital(course.name)} {'got worse' if gain < 0 else 'does not improve'}: it is "
            f"{format_loss(_last(course))}, and was {format_loss(_first(course))} at first. Only a metric is printed, "
            f"so a loss that still falls would not be seen."
        ),
        evidence={"metric": course.name, "first": _first(course), "last": _last(course)},
        action="Print the training loss; check the learning rate, and that inputs and targets belong to each other.",
    )


def metric_overfits(case: RunHistory) -> Finding | None:
    """Return the finding for a log without losses whose validation metric turned while that of training improves."""
    courses = judged_courses(case.log)
    for held_out in (course for course in courses if course.split == "validation"):
        train = next((c for c in courses if c.metric == held_out.metric and c.split in ("train", "")), None)
        if train is None or len(held_out.values) < FEWEST_POINTS or case.stopped_early or _gain(train) <= 0:
            continue
        sign = 1.0 if held_out.rises else -1.0
        width = max(1, min(5, len(held_out.values) // 4))
        levels = smoothed([sign * value for value in held_out.values], width)[width - 1 :]
        best = max(range(len(levels)), key=levels.__getitem__)
        loss, gain = levels[best] - levels[-1], levels[best] - levels[0]
        error = ERRORS * median_error(jitter(held_out.values), width)
        has_turned = loss > max(error, TURN * gain, LEAST_CHANGE * _range(held_out)) and best < len(levels) - width
        if has_turned:
            where = held_out.points[min(best + width - 1, len(held_out.points) - 1)].position
            return Finding(
                confidence=0.7 if loss > LIKELY_TURN * max(gain, 0.0) else TENTATIVE,
                sentence=(
                    f"{_capital(held_out.name)} was best near {where:g} ({format_loss(sign * levels[best])}) and is "
                    f"now {format_loss(sign * levels[-1])}, while {train.name} improved to {format_loss(_last(train))}."
                ),
                evidence={"best_epoch": where, "best": sign * levels[best], "last": sign * levels[-1]},
                action="Keep the best checkpoint; stop early, regularise more, or use more data.",
            )
    return None


def _gain(course: MetricCourse) -> float:
    """Return by how much a metric has improved, negative if it got worse; 0 for a change within its noise."""
    values, third = course.values, max(1, len(course.values) // 3)
    sign, least = (1.0 if course.rises else -1.0), LEAST_CHANGE * _range(course)
    change = sign * (_last(course) - _first(course))
    if abs(change) > max(ERRORS * math.sqrt(2) * median_error(jitter(values), third), least):
        return change
    # Most may have been learnt before the second value.
    change = sign * (_last(course) - values[0])
    return change if change > max(ERRORS * jitter(values), least) else 0.0


def _range(course: MetricCourse) -> float:
    """Return the range of a metric: 1 or 100 if it is bounded, else the size of its values.

    A log-likelihood has no natural zero, so that its range is the one that it covered.
    """
    if course.metric == LOG_LIKELIHOOD:
        return max(course.values, default=1.0) - min(course.values, default=0.0)
    highest = max(map(abs, course.values), default=1.0)
    if course.rises and course.metric not in UNBOUNDED:
        return 1.0 if highest <= OF_FRACTIONS else 100.0
    return highest


def _level(course: MetricCourse) -> float:
    return median(course.values) / _range(course)


def _is_good(course: MetricCourse) -> bool:
    """Return True for a level that a model without learning does not have."""
    if course.metric in UNBOUNDED:
        return False
    return _level(course) >= GOOD if course.rises else max(course.values) <= 1 - GOOD


def _first(course: MetricCourse) -> float:
    return median(course.values[: max(1, len(course.values) // 3)])


def _last(course: MetricCourse) -> float:
    return median(course.values[-max(1, len(course.values) // 3) :])


def _ends_as_nan(course: MetricCourse) -> bool:
    return len(course.points) >= LAST_POINTS and not any(map(_is_finite, course.points[-LAST_POINTS:]))


def _is_finite(point: Sequence[float]) -> bool:
    return math.isfinite(point[1])


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
