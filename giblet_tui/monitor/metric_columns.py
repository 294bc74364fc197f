"""Metric records as columns of numbers, reduced to what a chart of a given width can show.

Everything is pure but for two caches that only grow: a run appends records, so each is read once. A number that was
not finite is NaN in a column and a gap in a chart.

Shapes: N step records, E epoch records, C pixel columns of a chart, B blocks of the recursion, K records of a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.history import latest_epochs
from giblet_train.schema.records import EpochMetric, Number, SplitLoss, StepMetric, ValuesMetric

Floats = NDArray[np.float64]
NAMES = ("total", *COMPONENTS)
CHUNK_STEPS = 4096
"""Steps that are read at once: those of a long watch come from a file."""
BLOCK = 64
_origins = count()


class Range(NamedTuple):
    """An interval of an axis, first < last."""

    first: float
    last: float

    @property
    def span(self) -> float:
        """Return the length of the window."""
        return self.last - self.first

    def contains(self, value: float) -> bool:
        """Return True if the value is in the window, ends included."""
        return self.first <= value <= self.last


class Points(NamedTuple):
    """A series: x ascending, y with NaN for a gap, both of length N."""

    x_N: Floats
    y_N: Floats


class MinMax(NamedTuple):
    """Lowest and highest value of a series in each pixel column; NaN where the column is empty."""

    low_C: Floats
    high_C: Floats


@dataclass(frozen=True)
class Replaced:
    """Steps that a resume repeated, as they were the first time."""

    step_N: Floats
    at_N: Floats
    loss: dict[str, Floats]


class Series(NamedTuple):
    """Numbers that were recorded now and then, each with its step and its time on the node's clock."""

    step_N: Floats
    at_N: Floats
    value_N: Floats


class ValueCurves(NamedTuple):
    """A named number that is no loss: of the training or of no split, and of the validation."""

    train: Series
    validation: Series


@dataclass(frozen=True)
class Curves:
    """One run as columns. Keys of the mappings are `NAMES` and any further components of the records.

    `step` counts optimizer steps, `at` is the node's clock.

    origin: which columns these came from; of two with one origin, the longer begins with the shorter.
    began_at: the launch of the first of the runs that were stitched together. resumed: the first step of each resume.
    """

    origin: int
    began_at: float
    resumed: tuple[float, ...]
    replaced: tuple[Replaced, ...]
    step_N: Floats
    at_N: Floats
    lr_N: Floats
    loss: dict[str, Floats]
    epoch_step_E: Floats
    epoch_at_E: Floats
    train: dict[str, Floats]
    validation: dict[str, Floats]
    values: dict[str, ValueCurves] = field(default_factory=dict)
    """Numbers that are no losses, by name in the order in which they appeared."""


class _Column:
    """A float64 array that grows by doubling; a view given out earlier stays as it was."""

    def __init__(self) -> None:
        self._buffer: Floats = np.empty(256)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: Floats) -> None:
        while self._size + len(values) > len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._size : self._size + len(values)] = values
        self._size += len(values)

    def cut(self, size: int) -> Floats:
        """Cut the array to its first `size` values, in a new buffer, and return the others."""
        rest = self._buffer[size : self._size].copy()
        head = self._buffer[:size]
        self._buffer, self._size = np.concatenate([head, np.empty(256)]), size
        return rest

    def view(self) -> Floats:
        return self._buffer[: self._size]


class StepColumns:
    """Step records of one run as columns, extended by the new records at each call.

    Where the step number goes back, a resume repeated those steps: the curve continues with the later ones, and the
    earlier ones are retained apart as `Replaced`.
    """

    def __init__(self) -> None:
        self._values: tuple[Sequence[ValuesMetric], dict[str, ValueCurves]] = ((), {})
        self._clear()

    def curves(
        self,
        steps: Sequence[StepMetric],
        epochs: Sequence[EpochMetric],
        began_at: float = 0.0,
        values: Sequence[ValuesMetric] = (),
    ) -> Curves:
        """Return the columns of these records; records of an earlier call are not read again."""
        if len(steps) < self._size or (self._size and steps[self._size - 1] != self._last):
            self._clear()
        for begin in range(self._size, len(steps), CHUNK_STEPS):
            for stretch in contiguous_runs(steps[begin : begin + CHUNK_STEPS]):
                self._extend(stretch)
        last_epochs = latest_epochs(epochs)
        return Curves(
            origin=self._origin,
            began_at=began_at,
            resumed=tuple(self._resumed),
            replaced=tuple(self._replaced),
            step_N=self._step.view(),
            at_N=self._at.view(),
            lr_N=self._lr.view(),
            loss={name: column.view() for name, column in self._loss.items()},
            epoch_step_E=np.array([e.step for e in last_epochs], np.float64),
            epoch_at_E=np.array([e.at for e in last_epochs], np.float64),
            train=_parts([e.train for e in last_epochs]),
            validation=_parts([e.validation for e in last_epochs]),
            values=self._value_curves(values),
        )

    def _value_curves(self, records: Sequence[ValuesMetric]) -> dict[str, ValueCurves]:
        """Return the curves of other numbers; those of the same records as at the last call are not made again."""
        if records is not self._values[0]:
            self._values = records, value_curves(records)
        return self._values[1]

    def _clear(self) -> None:
        self._step, self._at, self._lr = _Column(), _Column(), _Column()
        self._loss = {name: _Column() for name in NAMES}
        self._size = 0
        self._last: StepMetric | None = None
        self._resumed: list[float] = []
        self._replaced: list[Replaced] = []
        self._origin = next(_origins)

    def _extend(self, stretch: Sequence[StepMetric]) -> None:
        if self._last is not None and _resumes(self._last, stretch[0]):
            self._resume(stretch[0].step)
        self._step.extend(_floats(s.step for s in stretch))
        self._at.extend(_floats(s.at for s in stretch))
        self._lr.extend(_floats(s.lr for s in stretch))
        self._loss["total"].extend(_floats(s.total for s in stretch))
        for name in self._component_names(stretch):
            self._loss[name].extend(_floats(s.loss.get(name) for s in stretch))
        self._size, self._last = self._size + len(stretch), stretch[-1]

    def _component_names(self, stretch: Sequence[StepMetric]) -> list[str]:
        """Return all component names; the column of a new one begins with gaps."""
        for name in dict.fromkeys(name for step in stretch for name in step.loss):
            if name not in self._loss:
                self._loss[name] = _Column()
                self._loss[name].extend(np.full(len(self._lr) - len(stretch), np.nan))
        return [name for name in self._loss if name != "total"]

    def _resume(self, step: int) -> None:
        """Continue from a step; records from there on are set aside as replaced."""
        self._resumed.append(float(step))
        n_retained = int(np.searchsorted(self._step.view(), step))
        if n_retained == len(self._step):
            return
        self._lr.cut(n_retained)
        loss = {name: column.cut(n_retained) for name, column in self._loss.items()}
        self._replaced.append(Replaced(self._step.cut(n_retained), self._at.cut(n_retained), loss))
        self._origin = next(_origins)


def value_curves(records: Sequence[ValuesMetric]) -> dict[str, ValueCurves]:
    """Return the curve of each named number; a record without it is no gap in it."""
    names = dict.fromkeys(name for record in records for name in (*record.values, *record.validation))
    return {
        name: ValueCurves(
            _series([(record, record.values[name]) for record in records if name in record.values]),
            _series([(record, record.validation[name]) for record in records if name in record.validation]),
        )
        for name in names
    }


def _series(points: Sequence[tuple[ValuesMetric, Number]]) -> Series:
    return Series(
        np.array([record.step for record, _ in points], np.float64),
        np.array([record.at for record, _ in points], np.float64),
        _floats(value for _, value in points),
    )


def contiguous_runs(steps: Sequence[StepMetric]) -> list[Sequence[StepMetric]]:
    """Split records at each resume."""
    borders = [i for i, (a, b) in enumerate(pairwise(steps), 1) if _resumes(a, b)]
    return [steps[a:b] for a, b in pairwise([0, *borders, len(steps)]) if a < b]


def _resumes(before: StepMetric, after: StepMetric) -> bool:
    """Return True if the second record starts over: the step went back, or the sequence numbers of a new run began."""
    return after.step <= before.step or after.seq <= before.seq


class Smoother:
    """A debiased exponential moving average of a growing column: the weight of a value `k` records back is decay^k.

    Debiased by dividing by the weights themselves (Kingma and Ba 2015, section 3), so the first values are not pulled
    towards zero; a gap weighs nothing and stays a gap.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._smoothed = _Column()
        self._sum, self._weight = 0.0, 0.0

    def smoothed(self, values_N: Floats) -> Floats:
        """Return the average at every value. values_N must begin with the values of the earlier call."""
        fresh_N = values_N[len(self._smoothed) :]
        if len(fresh_N):
            known_N = np.isfinite(fresh_N)
            sum_N = decayed_sum(np.where(known_N, fresh_N, 0.0), self.decay, self._sum)
            weight_N = decayed_sum(known_N.astype(np.float64), self.decay, self._weight)
            with np.errstate(invalid="ignore", divide="ignore"):
                smooth_N = np.where(known_N, sum_N / weight_N, np.nan)
            self._smoothed.extend(smooth_N)
            self._sum, self._weight = float(sum_N[-1]), float(weight_N[-1])
        return self._smoothed.view()


def decayed_sum(values_N: Floats, decay: float, before: float = 0.0) -> Floats:
    """Compute s_k = decay·s_{k-1} + v_k with s_{-1} = before, without a Python loop over records.

    Each block of records is one row of a product with the matrix of decays; the ends of the blocks obey the same
    recursion with decay^BLOCK.
    """
    decay_KK, carry_K = _decays(decay)
    size = len(values_N)
    if size <= BLOCK:
        return np.asarray(decay_KK[:size, :size] @ values_N + before * carry_K[:size])
    padded_BK = np.pad(values_N, (0, -size % BLOCK)).reshape(-1, BLOCK)
    inner_BK = padded_BK @ decay_KK.T
    end_B = decayed_sum(inner_BK[:, -1], decay**BLOCK, before)
    start_B = np.concatenate([[before], end_B[:-1]])
    sum_BK: Floats = inner_BK + start_B[:, None] * carry_K
    return sum_BK.ravel()[:size]


@lru_cache(maxsize=32)
def _decays(decay: float) -> tuple[Floats, Floats]:
    """Return the weight of a record in each later one of its block, and of the sum before the block in each record."""
    lag_KK = np.subtract.outer(np.arange(BLOCK), np.arange(BLOCK))
    decay_KK: Floats = np.where(lag_KK >= 0, decay ** np.maximum(lag_KK, 0), 0.0)
    carry_K: Floats = np.asarray(decay ** np.arange(1, BLOCK + 1), np.float64)
    return decay_KK, carry_K


def reduced(points: Points, window: Range, columns: int, *, joined: bool = True) -> MinMax:
    """Return the lowest and highest value in each of `columns` pixel columns; the outer centres are the window's ends.

    joined: also what a straight line between neighbouring points crosses; never over a gap.
    """
    x_N, y_N = points
    pitch = window.span / max(1, columns - 1)
    edge_C = window.first + (np.arange(columns + 1) - 0.5) * pitch
    start_C = np.searchsorted(x_N, edge_C)
    low_C, high_C = np.full(columns, np.nan), np.full(columns, np.nan)
    filled_C = start_C[:-1] < start_C[1:]
    if filled_C.any():
        inside_N, at_C = y_N[: start_C[-1]], start_C[:-1][filled_C]
        low_C[filled_C] = np.fmin.reduceat(inside_N, at_C)
        high_C[filled_C] = np.fmax.reduceat(inside_N, at_C)
    if joined and len(x_N) > 1:
        centre_C = window.first + np.arange(columns) * pitch
        with np.errstate(invalid="ignore"):
            line_C = np.interp(centre_C, x_N, y_N, left=np.nan, right=np.nan)
        low_C, high_C = np.fmin(low_C, line_C), np.fmax(high_C, line_C)
    return MinMax(low_C, high_C)


def gaps(points: Points, window: Range) -> Floats:
    """Return the x of every value in the window that was not finite."""
    first, last = np.searchsorted(points.x_N, [window.first, window.last + 1e-9])
    return points.x_N[first:last][np.isnan(points.y_N[first:last])]


def value_at(points: Points, x: float) -> float:
    """Return the value of the last point at or before x; NaN if there is none."""
    index = int(np.searchsorted(points.x_N, x, side="right")) - 1
    return float(points.y_N[index]) if index >= 0 else float("nan")


def last_value(values_N: Floats) -> float:
    """Return the newest value; NaN if there is none or it was not finite."""
    return float(values_N[-1]) if len(values_N) else float("nan")


def log10(values_N: Floats) -> Floats:
    """Return decimal logarithms; NaN (a gap) for values that are not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values_N > 0, np.log10(np.where(values_N > 0, values_N, 1.0)), np.nan)


def number(value: Number) -> float:
    """Return a record's number; NaN for null."""
    return float("nan") if value is None else value


def _floats(values: Iterable[Number]) -> Floats:
    return np.array([number(value) for value in values], np.float64)


def _parts(parts: Sequence[SplitLoss | None]) -> dict[str, Floats]:
    names = dict.fromkeys([*COMPONENTS, *(name for part in parts if part for name in part.loss)])
    totals = _floats(part.total if part else None for part in parts)
    return {"total": totals} | {n: _floats(part.loss.get(n) if part else None for part in parts) for n in names}
