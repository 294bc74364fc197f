"""Follow every named number of a log that is no loss, such as an accuracy, a PSNR or a reward, for the charts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from giblet_train.diagnosis.log_reader.key_names import quantity_of, split_of, words_of
from giblet_train.diagnosis.log_reader.line_shape import LineShape, places_of
from giblet_train.diagnosis.log_reader.loss_parts import NOT_PARTS
from giblet_train.diagnosis.log_reader.metric_names import NO_MEAN, NO_POINT, rises
from giblet_train.diagnosis.log_reader.number_format import NUMBER, parse_number
from giblet_train.diagnosis.log_reader.observation import Observation

MOST_NAMES = 32
MOST_EPOCHS = 8192
"""Epochs whose values are kept; beyond that, every other one is dropped."""
ROWS_PER_STRIDE = 2048
"""Beyond this number of steps every second one is dropped, beyond twice the number every fourth, and so on."""
LONGEST_LINE = 2000
_WORD = r"[^\W\d_][\w@./^-]{0,40}"
_PAIR = re.compile(
    rf"(?<![\w@./-])(?P<name>{_WORD}(?:[ ]{_WORD}){{0,3}})['\"]?(?P<mark>\s{{0,3}}[:=]\s{{0,8}}|\s{{1,8}})"
    rf"['\"\[(]{{0,2}}(?:tensor\(|array\(|np\.float\d+\()?(?P<number>(?:{NUMBER})|[-+]?\d+(?:\.\d+)?(?=\s?%))",
    re.IGNORECASE,
)
_COUNTER = re.compile(
    r"\b(?:(epoch)|global[_ ]?step|step|iteration|iter|update|round|(?:total[_ ])?timesteps)['\"]?\s{0,3}[:=]?"
    r"\s{0,3}(\d{1,12})(?![\d.]*\d?\s?%)\b",
    re.IGNORECASE,
)
_UNIT = re.compile(r"(?:dB|px|mm|K)\s+(?=\S)")
"""Unit of the number before a name."""
_SPLIT = re.compile(
    r"(?:^|(?<=[\s/_.-]))(?:train(?:ing)?|trn|val(?:id(?:ation)?)?|eval(?:uation)?|dev|test(?:ing)?)(?:[\s/_.-]+|$)",
    re.IGNORECASE,
)
"""A split as a word of a name."""
_NOT_VALUES = (NOT_PARTS - {"acc", "accuracy", "top"}) | frozenset(
    (
        *("epoch", "epochs", "ep", "step", "steps", "iter", "iters", "iteration", "iterations", "batch", "update"),
        *("updates", "episode", "episodes", "timesteps", "fps", "n", "num", "count", "rank", "worker", "pid", "port"),
        *("version", "line", "id", "took", "duration", "remaining", "device", "cuda", "fold", "round", "total", "of"),
        *("params", "parameters", "layers", "dim", "bytes", "kb", "gib", "mib", "hour", "day", "days", "frames", "at"),
        *("runtime", "second"),
        *("after", "in", "for", "to", "is", "and", "the", "by", "on", "from", "since", "until", "with", "file", "date"),
    )
)
"""Words of counters, durations, sizes and sentences."""


_Value = Tuple[str, bool, float]
"""Name without its split, whether it is of the validation, number."""


class _Name(NamedTuple):
    """Meaning of a printed name."""

    short: str
    """The name without its split."""
    split: Optional[str]
    is_value: bool
    """False for a loss, a learning rate, a counter, a duration or a size."""
    is_known: bool
    """True if the name says whether more is better."""
    is_error: bool
    """True for an error that is the loss of a log without one, such as an RMSE."""


class ValueRow(NamedTuple):
    """Named numbers of one epoch, or of one step of a log that counts no epochs."""

    epoch: int
    """0 if the log counts no epochs."""
    step: int
    """The epoch once more, if the log counts them."""
    values: Dict[str, float]
    """Name without its split -> number as printed, of the training or without a split; may be nan or infinite."""
    validation: Dict[str, float]
    """The same of the validation."""


class ValueWatch:
    """Collects the named numbers of the lines of a log."""

    def __init__(self) -> None:
        self._by_epoch: Dict[int, ValueRow] = {}
        self._by_step: List[ValueRow] = []
        self._names: Dict[str, str] = {}
        self._errors: Set[str] = set()
        self._has_loss = False
        self._epoch: Optional[int] = None
        self._step = 0
        self._steps_before, self._last_count = 0, (0, 0)
        self._n_bar_steps = 0
        self._n_kept = 0
        self._places: "Dict[Tuple[Optional[LineShape], bool], Optional[List[Tuple[str, bool, int]]]]" = {}
        """Lines of a shape, with a counter of their own or not -> (name, is of the validation, place) of each value;
        None if a value is at no place that all of them have."""

    def add(
        self,
        text: str,
        observation: Optional[Observation],
        shape: Optional[LineShape] = None,
        numbers: Sequence[str] = (),
    ) -> None:
        """Read the numbers of a line, at its own epoch or step or at that of the last line with one.

        Args:
            text: the line.
            observation: what was read in it.
            shape: its shape, of which it is remembered which of its numbers are values.
            numbers: the numbers of the line, as its shape has them.
        """
        step_before = self._step
        if observation is not None and not observation.final:
            self._note_position(observation)
        is_counted = observation is not None and (observation.epoch is not None or observation.step is not None)
        if observation is None:
            is_counted = self._note_counter(text)
        if self._step < step_before and _is_step_of_evaluation(text):
            self._step = step_before
        if self._is_other_bar(observation):
            return
        values = self._values_of(text, is_counted, shape, numbers)
        if values:
            self._keep(values)

    def result(self, is_blocks: bool, parts: Set[str]) -> Tuple[ValueRow, ...]:
        """Return the rows in their order.

        Args:
            is_blocks: True if the losses of the log are not divided into epochs.
            parts: Names of the parts of the loss, which have curves of their own.
        """
        rows = self._by_step if is_blocks or not self._by_epoch else [row for _, row in sorted(self._by_epoch.items())]
        hidden_names = parts if self._has_loss else parts | self._errors
        if not hidden_names:
            return tuple(rows)
        slim_rows = (
            row._replace(values=_without(row.values, hidden_names), validation=_without(row.validation, hidden_names))
            for row in rows
        )
        return tuple(row for row in slim_rows if row.values or row.validation)

    def _note_position(self, observation: Observation) -> None:
        self._has_loss = self._has_loss or any(value.quantity.kind == "loss" for value in observation.values)
        if observation.epoch is not None and not observation.fractional:
            self._epoch = int(observation.epoch)
        if observation.kind in ("bar", "keras"):
            self._n_bar_steps = max(self._n_bar_steps, observation.n_steps or 0)
            if self._is_other_bar(observation):
                return
        if observation.step is not None:
            self._note_step(observation.step, observation.n_steps or 0)
        elif observation.fractional:
            self._step += 1

    def _note_step(self, step: int, n_steps: int) -> None:
        """Take the step of a line; where the counter of an epoch begins again, steps add up."""
        if n_steps and self._last_count[1] == n_steps and step < self._last_count[0]:
            self._steps_before += n_steps
        self._last_count = (step, n_steps)
        self._step = step + self._steps_before

    def _note_counter(self, text: str) -> bool:
        """Take the counter of a line whose other numbers are no losses. Return True if it has one."""
        match = _COUNTER.search(text) if len(text) <= LONGEST_LINE else None
        if match is not None and match[1]:
            self._epoch = int(match[2])
        elif match is not None:
            self._step = int(match[2])
        return match is not None

    def _is_other_bar(self, observation: Optional[Observation]) -> bool:
        """Return True for a progress bar that does not count the steps of the training, as that of an evaluation."""
        if observation is None or observation.kind not in ("bar", "keras"):
            return False
        return (observation.n_steps or 0) < self._n_bar_steps and observation.epoch is None

    def _values_of(
        self, text: str, is_counted: bool, shape: Optional[LineShape], numbers: Sequence[str]
    ) -> "List[_Value]":
        """Return the values of a line. Those of a known shape are at the same places as in the first such line."""
        key = (shape, is_counted)
        places = self._places.get(key) if shape is not None else None
        if places is not None:
            value_pairs = [(name, is_validation, parse_number(numbers[place])) for name, is_validation, place in places]
            return [(name, is_validation, value) for name, is_validation, value in value_pairs if value is not None]
        if len(text) > LONGEST_LINE or NO_POINT.search(text) or NO_MEAN.search(text):
            values: List[_Value] = []
            spans: List[int] = []
        else:
            values, spans = self._search(text, is_counted)
        if shape is not None and key not in self._places:
            place_by_start = places_of(text)
            places_in_text = [place_by_start.get(span) for span in spans]
            self._places[key] = (
                None
                if None in places_in_text
                else [
                    (name, is_validation, place)
                    for (name, is_validation, _), place in zip(values, places_in_text)
                    if place is not None
                ]
            )
        return values

    def _search(self, text: str, is_counted: bool) -> "Tuple[List[_Value], List[int]]":
        """Return the values of a line, and where their numbers begin; without a counter only well-known metrics."""
        values: List[_Value] = []
        starts: List[int] = []
        split_before: Optional[str] = None
        end = 0
        for match in _PAIR.finditer(text):
            name = _name_of(match["name"])
            split_before = name.split or _split_in(text[end : match.start()]) or split_before
            end = match.end()
            if not name.is_value or not (name.is_known or (is_counted and not match["mark"].isspace())):
                continue
            number = parse_number(match["number"])
            if number is None:
                continue
            if name.is_error:
                self._errors.add(name.short.lower())
            short_name = f"test {name.short}" if split_before == "test" else name.short
            values.append((short_name, split_before == "validation", number))
            starts.append(match.start("number"))
        return values, starts

    def _keep(self, numbers: "List[_Value]") -> None:
        values: Dict[str, float] = {}
        validation: Dict[str, float] = {}
        for name, is_validation, number in numbers:
            shown_name = self._names.get(name.lower())
            if shown_name is None:
                if len(self._names) >= MOST_NAMES:
                    continue
                shown_name = self._names[name.lower()] = name
            (validation if is_validation else values)[shown_name] = number
        if self._epoch is not None:
            row = self._by_epoch.get(self._epoch) or ValueRow(self._epoch, self._epoch, {}, {})
            self._by_epoch[self._epoch] = _joined(row, values, validation)
            if len(self._by_epoch) > MOST_EPOCHS:
                self._by_epoch = dict(sorted(self._by_epoch.items())[::2])
        self._keep_step(values, validation)

    def _keep_step(self, values: Dict[str, float], validation: Dict[str, float]) -> None:
        rows = self._by_step
        if rows and self._step == rows[-1].step and not (set(values) & set(rows[-1].values)):
            rows[-1] = _joined(rows[-1], values, validation)
            return
        if rows and self._step < rows[-1].step:  # the training was resumed at an earlier step
            self._by_step = rows = [row for row in rows if row.step < self._step]
        self._n_kept += 1
        if (self._n_kept - 1) % (1 << len(rows) // ROWS_PER_STRIDE) == 0:
            rows.append(ValueRow(0, max(self._step, rows[-1].step + 1 if rows else 0), values, validation))


def _is_step_of_evaluation(text: str) -> bool:
    """Return True for a line such as `eval step 5`, whose counter is not that of the training."""
    match = _COUNTER.search(text)
    return match is not None and _split_in(text[: match.start()]) is not None


def _joined(row: ValueRow, values: Dict[str, float], validation: Dict[str, float]) -> ValueRow:
    return row._replace(values={**row.values, **values}, validation={**row.validation, **validation})


def _without(values: Dict[str, float], hidden_names: Set[str]) -> Dict[str, float]:
    return {name: value for name, value in values.items() if name.lower() not in hidden_names}


@lru_cache(maxsize=4096)
def _name_of(name: str) -> _Name:
    words = set(words_of(name))
    quantity = quantity_of(name)
    kind = quantity.kind if quantity is not None else ""
    short_name = _without_split(name)
    is_value = bool(words) and not words & _NOT_VALUES and kind not in ("loss", "lr")
    return _Name(short_name, split_of(name), is_value, rises(short_name) is not None, kind == "error")


def _without_split(name: str) -> str:
    """Return a name without the split in it: `acc` of `val_acc`, `Top1 Accuracy` of `Valid Top1 Accuracy`."""
    short_name = _SPLIT.sub("", _UNIT.sub("", name)).strip(" /_.-")
    return short_name or name


def _split_in(gap: str) -> Optional[str]:
    """Return the split that the text between two pairs names; None for mere punctuation."""
    return split_of(gap) if len(gap) > 3 else None
