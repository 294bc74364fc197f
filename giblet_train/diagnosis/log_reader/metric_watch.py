"""Follow metrics of known direction, such as accuracies and error rates, next to losses or without them."""

from __future__ import annotations

import math
import re
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from giblet_train.diagnosis.log_reader.key_names import single_split, split_of
from giblet_train.diagnosis.log_reader.line_shape import LineShape
from giblet_train.diagnosis.log_reader.metric_names import METRIC, NO_MEAN, NO_POINT, PAIR
from giblet_train.diagnosis.log_reader.number_format import parse_number
from giblet_train.diagnosis.log_reader.observation import Observation

MOST_ROWS = 20_000
FEWEST_POINTS = 3
_COUNTER = re.compile(r"\b(?:epoch|step|iteration|iter|round)['\"]?\s{0,3}[:=]\s{0,3}(\d{1,12})\b", re.IGNORECASE)
"""Counter of a record without a loss."""
_EVALUATION = re.compile(r"\s*(?:test|val|valid|validation|eval|evaluation)\b\W{0,4}\d{1,9}\s?/\s?\d", re.IGNORECASE)
"""Progress within one evaluation, which is no course of a training."""


class MetricPoint(NamedTuple):
    """A metric at one epoch or step."""

    position: float
    """Epoch, step, or number of the line."""
    value: float


LOG_LIKELIHOOD = "log-likelihood"
"""Metric of a course whose name says that it is one."""


class MetricCourse(NamedTuple):
    """Course of one metric on one split."""

    name: str
    """As printed, such as `valid auc`."""
    metric: str
    """Without its split, in lower case."""
    split: str
    """`train`, `validation`, or empty if the name states none; a test set counts as validation."""
    rises: bool
    """True if more is better."""
    points: Tuple[MetricPoint, ...]

    @property
    def values(self) -> List[float]:
        """Return the values that are numbers."""
        return [point.value for point in self.points if math.isfinite(point.value)]


class MetricWatch:
    """Collects the metrics of the lines of a log."""

    def __init__(self) -> None:
        self._courses: Dict[Tuple[str, str], List[MetricPoint]] = {}
        self._names: Dict[Tuple[str, str], Tuple[str, bool]] = {}
        self._epoch: Optional[float] = None
        self._step: Optional[float] = None
        self._n_lines = 0

    def add(self, text: str, observation: Optional[Observation], shape: Optional[LineShape] = None) -> bool:
        """Read the metrics of a line, at its own epoch or step or at that of the last line with one.

        Return True if it has any.

        Args:
            text: the line.
            observation: what was read in it.
            shape: its shape, of which it is remembered whether it has a metric.
        """
        if observation is not None and not observation.final:
            self._epoch = observation.epoch if observation.epoch is not None else self._epoch
            self._step = observation.step if observation.step is not None else self._step
        counter = _COUNTER.search(text) if observation is None else None
        if counter:
            self._epoch = float(counter[1])
        if not (_has_metric(text) if shape is None else shape.has("metric", _has_metric, text)):
            return False
        self._n_lines += 1
        if observation is not None and observation.kind in ("bar", "keras") and self._epoch is None:
            return False
        position = self._epoch if self._epoch is not None else self._step if self._step is not None else self._n_lines
        split_before = ""
        of_line: Set[Tuple[str, str]] = set()
        for match in PAIR.finditer(text):
            number = parse_number(match["number"])
            if number is None or NO_MEAN.search(text, 0, match.end()):
                continue
            own = split_of(f"{match['before']} {match['after'] or ''}") or split_of(text[: match.start()])
            if own is None and single_split(match["before"].strip("_/ .-")) is None:
                own = split_before or None
            split = "validation" if own in ("validation", "test") else own or ""
            split_before = split
            metric = (match["rising"] or match["falling"]).lower()
            key = (metric, split)
            if key in of_line:
                continue  # the first of a line counts, and its validation rather than its test
            of_line.add(key)
            points = self._courses.setdefault(key, [])
            self._names.setdefault(key, (f"{own or ''} {metric}".strip(), match["rising"] is not None))
            if points and points[-1].position == position:
                points[-1] = MetricPoint(position, number)
            elif len(points) < MOST_ROWS and (not points or position > points[-1].position):
                points.append(MetricPoint(position, number))
        return True

    @property
    def has_course(self) -> bool:
        """Return True if a metric was read several times."""
        return any(len(points) >= FEWEST_POINTS for points in self._courses.values())

    def result(self) -> Tuple[MetricCourse, ...]:
        """Return the courses, in the order in which their metrics appear."""
        return tuple(
            MetricCourse(name, metric, split, rises, tuple(self._courses[metric, split]))
            for (metric, split), (name, rises) in self._names.items()
        )


def _has_metric(text: str) -> bool:
    is_point = len(text) <= 2000 and METRIC.search(text) is not None
    return is_point and not (NO_POINT.search(text) or _EVALUATION.match(text))
