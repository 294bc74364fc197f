"""Collect the observations of a log into one row per epoch."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from giblet_train.diagnosis.log_reader.key_names import ADVERSARIAL, FAKE_SCORE, OTHER, REINFORCEMENT
from giblet_train.diagnosis.log_reader.loss_parts import ROUNDING, named_parts, part_weights, terms_of
from giblet_train.diagnosis.log_reader.observation import Observation, Value

MAX_POINTS = 4096
"""Most points kept of a log without epochs; beyond that, neighbours are averaged."""
BLOCKS = 40
FEWEST_POINTS_PER_BLOCK = 5
FEWEST_BLOCKS = 6
USUAL_BLOCKS = 12
"""Blocks that have fewer points each rather than being fewer."""
FEWEST_FALLS = 4
STEADY = 0.7
"""Share of the steps down to the lowest value that must be falls."""
FALL_SHARE = 0.3
"""Fall, relative to the first value, that no accuracy begins with."""
FEWEST_EPOCHS = 3
"""A log with fewer epochs is divided into blocks of its steps, if it prints enough of them."""
FEW_EPOCHS = 8
"""A log with fewer epochs is also judged in blocks of its steps."""
WHOLE_EPOCHS = 4
"""A log with fractional epochs is divided into epochs if it has at least this many."""

COUNTED_SHARE = 0.9
"""Share of its total that a counter of steps reaches before it begins again."""
FEWEST_REWARDS = 3
"""Printed rewards from which a log is one of reinforcement learning; fewer may be figures of a test."""
NAMELESS = "nameless"
LOSS_KINDS = ("loss", "error", "bare", NAMELESS)
"""Kinds of quantities that may be the loss of a log; the first that it prints is."""

WHOLE_MODELS = frozenset({"vae", "cvae", "wae", "aae", "vqvae", "autoencoder"})
"""Names of models whose loss is the total of the parts next to it, such as `loss_vae` next to `loss_kl`."""
UNNAMED = ("bare", NAMELESS)
"""Kinds that no name shows to be losses."""

Key = Tuple[str, str, str]
"""(kind, split, part) of a quantity; empty strings for none."""


class EpochRow(NamedTuple):
    """Values of one epoch. A number may be nan or infinite; None means that the log does not print it."""

    epoch: int
    train: Optional[float] = None
    validation: Optional[float] = None
    lr: Optional[float] = None
    r: Optional[float] = None
    grad_norm: Optional[float] = None
    train_parts: Mapping[str, float] = MappingProxyType({})
    validation_parts: Mapping[str, float] = MappingProxyType({})
    others: Mapping[str, float] = MappingProxyType({})
    """Other named numbers of the training, which may be parts of its loss."""
    validation_others: Mapping[str, float] = MappingProxyType({})
    fake_score: Optional[float] = None
    """Mean verdict of a discriminator on generated samples, from 0 to 1."""
    reward: Optional[float] = None
    """Mean reward of a reinforcement learner."""


class Point(NamedTuple):
    """Values logged at one step of a log that does not divide its course into epochs."""

    position: int
    """Step, or the number of the line if no step is printed."""
    epoch: Optional[float]
    values: Dict[Key, float]


class _Mean:
    """Running mean of a quantity; its last value decides whether it is finite."""

    def __init__(self) -> None:
        self.total, self.n, self.last = 0.0, 0, math.nan
        self.average: Optional[float] = None
        self.is_average = False
        """True if the printed value is itself an average of the epoch, so that the last one counts."""

    def add(self, number: float, average: Optional[float] = None, is_average: bool = False) -> None:
        self.last, self.is_average = number, is_average
        self.average = average if average is not None else self.average
        if math.isfinite(number):
            self.total, self.n = self.total + number, self.n + 1

    def value(self) -> float:
        if not math.isfinite(self.last) or self.is_average or not self.n:
            return self.last
        return self.average if self.average is not None else self.total / self.n


class _Epoch:
    """Values of an epoch that is being read."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.final: Dict[Key, _Mean] = {}
        self.running: Dict[Key, _Mean] = {}

    def value(self, key: Key) -> Optional[float]:
        if key in self.final:
            return self.final[key].value()
        if key in self.running:
            return self.running[key].value()
        return None

    def first(self, keys: Tuple[Key, ...]) -> Optional[float]:
        """Return the first of several quantities that the epoch has; values of whole epochs come first."""
        key = next((key for store in (self.final, self.running) for key in keys if key in store), None)
        return self.value(key) if key is not None else None

    def of_steps(self) -> "_Epoch":
        """Return the epoch without what is printed once, if its steps show the same: it is of a test at the end."""
        steps = _Epoch(self.epoch)
        steps.running = self.running
        steps.final = {key: mean for key, mean in self.final.items() if key not in self.running}
        return steps

    def parts(self, split: str, kind: str = "loss") -> Dict[str, float]:
        names = [key[2] for key in (*self.final, *self.running) if key[0] == kind and key[1] == split and key[2]]
        values = {name: self.value((kind, split, name)) for name in dict.fromkeys(names)}
        return {name: value for name, value in values.items() if value is not None}

    def has(self, kind: str, split: str) -> bool:
        return any(key[0] == kind and key[1] == split for key in self.final)


class EpochTable:
    """Rows of epochs, filled by `add` in the order of the log."""

    def __init__(self) -> None:
        self.n_epochs = 0
        """Planned number of epochs, as printed; 0 if not printed."""
        self.n_steps = 0
        """Planned number of steps, in a log that counts steps only; 0 if not printed."""
        self.steps_per_epoch: Optional[int] = None
        self.restarted = False
        self.points: List[Point] = []
        self.is_blocks = False
        """True if the rows are blocks of steps, because the log has no epochs."""
        self.summed_parts: Tuple[str, ...] = ()
        """Parts whose sum is taken for the total, because no total is printed."""
        self.is_adversarial = False
        """True if only losses are printed that balance each other, which have no total."""
        self.balanced_rows: Tuple[EpochRow, ...] = ()
        """Rows whose losses balance each other, which have parts but no total."""
        self.validation_only = False
        self.is_inferred = False
        """True if the structure of the lines, and not their words, shows what counts."""
        self.assumed_loss = ""
        """Name of the number that is taken for the loss although it does not say so; empty without one."""
        self.n_observed = 0
        self._steps_of_epochs: List[Point] = []
        self._epochs: Dict[int, _Epoch] = {}
        self._current: Optional[_Epoch] = None
        self._several_ranks = False
        self._disturbed = False
        self._heading: Optional[int] = None
        self._n_points, self._step = 0, 0
        self._last_count: Tuple[int, Optional[int]] = (0, None)
        self._steps_before = 0
        self._step_heading: Optional[Observation] = None
        self._noted_heading: Optional[Observation] = None
        self._loss_kind = LOSS_KINDS[0]
        self._n_rewards = 0
        self._bare: Dict[int, float] = {}

    @property
    def epoch(self) -> Optional[int]:
        """Return the epoch being read; None before the first."""
        if self._current is not None:
            return self._current.epoch
        last = self.points[-1].epoch if self.points else None
        return _whole(last) if last is not None else None

    @property
    def step(self) -> int:
        """Return the last step that was counted; 0 before the first."""
        return self._step

    @property
    def has_counter(self) -> bool:
        """Return True if an epoch or step was counted."""
        return self.epoch is not None or self._step > 0

    @property
    def span(self) -> Optional[Tuple[float, float]]:
        """Return the first and last epoch that is read; in a log without epochs its steps, None without them."""
        if self._epochs:
            return min(self._epochs), max(self._epochs)
        return (self.points[0].position, self.points[-1].position) if self.points and self._step else None

    def row(self, number: int) -> Optional[EpochRow]:
        """Return the row of one epoch; None if the log prints no loss for it, or if `needs_all_rows`."""
        if self.needs_all_rows:
            return None
        epoch = self._epochs.get(number)
        if epoch is None:
            epoch = _Epoch(number)
            for point in self.points:
                if point.epoch is not None and _whole(point.epoch) == number:
                    _fill(epoch, point)
        return next(iter(self._complete([self._row(epoch)])), None)

    @property
    def is_nameless(self) -> bool:
        """Return True if only numbers without names are printed."""
        return self._loss_kind == NAMELESS

    @property
    def is_balanced(self) -> bool:
        """Return True if only losses or rewards were read that balance each other."""
        return self.is_adversarial or bool(self.balanced_rows)

    @property
    def needs_all_rows(self) -> bool:
        """Return True if only `rows` shows what the numbers are: they have no name, or steps but no epochs."""
        self._choose_loss_kind()
        return self.is_inferred or self._loss_kind in UNNAMED or (self.epoch is None and bool(self.points))

    @property
    def rows_are_final(self) -> bool:
        """Return True if later lines only add rows; blocks of steps without an evaluation change with their number."""
        return self.epoch is not None or self._block_size(self.points) == 1

    def disturb(self) -> None:
        """Note that the next epoch may belong to a restarted training: an error or a resume message was printed."""
        self._disturbed = True

    def add(self, observation: Observation) -> bool:
        """Add what a line shows. Return True if it is progress: a later epoch, a later step, or new values."""
        if observation.final:
            return False
        self.n_observed += bool(observation.values)
        self._n_rewards += any(value.quantity.kind == "reward" for value in observation.values)
        observation = self._below_heading(observation)
        if observation.n_epochs:
            self.n_epochs = observation.n_epochs
        if observation.epoch is not None and not observation.fractional:
            return self._add_to_epoch(observation, int(observation.epoch))
        if self._heading is not None and observation.values:
            return self._add_to_epoch(observation, self._heading)
        if self._current is not None and not observation.fractional:
            return self._store(self._current, observation)
        return self._add_point(observation)

    def step_blocks(self) -> Tuple[EpochRow, ...]:
        """Return blocks of steps of a log whose epochs are too few to show a sudden change; empty otherwise."""
        n_steps, was_blocks = len(self._steps_of_epochs), self.is_blocks
        if len(self._epochs) >= FEW_EPOCHS or n_steps < FEWEST_BLOCKS * FEWEST_POINTS_PER_BLOCK:
            return ()
        blocks = tuple(self._complete(self._rows_of_points(self._steps_of_epochs)))
        self.is_blocks = was_blocks
        return blocks

    def _below_heading(self, observation: Observation) -> Observation:
        """Take lines without a counter, below a line with only epoch and step, for values of that step."""
        if observation.epoch is not None or (observation.step is not None and observation.values):
            is_heading = observation.kind == "step" and not observation.values
            self._step_heading = observation if is_heading else None
        heading = self._step_heading
        is_below = observation.kind == "line" and observation.epoch is None and observation.values
        if heading is None or not is_below:
            return observation
        return observation._replace(epoch=heading.epoch, step=heading.step, n_steps=heading.n_steps, kind="step")

    def rows(self) -> Tuple[EpochRow, ...]:
        """Return one row per epoch that has a loss; blocks of steps if the log has no epochs.

        Numbers that only their split names (`train: 1.2`) are losses if they fall at first; an accuracy would rise.
        """
        self._choose_loss_kind()
        self._bare = {}
        rows = self._rows()
        if len(rows) < FEWEST_EPOCHS and len(self._steps_of_epochs) >= FEWEST_BLOCKS:
            rows = tuple(self._complete(self._rows_of_points(self._steps_of_epochs))) or rows
        if self._loss_kind == "loss" and "error" in self._kinds() and _vanishes([row.train for row in rows]):
            self._loss_kind = "error"  # some programs print 0 for a loss that their optimizer computes by itself
            rows = self._rows()
        if len(rows) >= FEW_EPOCHS and not any(row.train or row.validation for row in rows):
            return ()  # a loss that is 0 from the first line on is none, or is printed with too few digits
        rows = _with_summands(rows)
        if self._loss_kind in UNNAMED:
            train = [row.train for row in rows]
            rows = self._with_nameless_validation(rows)
            falls = _falls(train) and (not self.is_inferred or _falls_beyond_noise(train))
            return rows if falls or _fell(train) else ()
        return self._with_bare_validation(rows)

    def _with_bare_validation(self, rows: Tuple[EpochRow, ...]) -> Tuple[EpochRow, ...]:
        """Take `val 0.61` behind a loss for the validation loss, if it falls and is of the same size.

        Not where the line also has a `train 0.59` besides its loss: then both are another metric.
        """
        pairs = [(row.train, self._bare[row.epoch]) for row in rows if row.train and row.epoch in self._bare]
        if any(row.validation is not None for row in rows) or not pairs or self._has_bare_train():
            return rows
        if not _are_similar(pairs) or not _falls([value for _, value in pairs]):
            return rows
        return tuple(row._replace(validation=self._bare.get(row.epoch)) for row in rows)

    def _with_nameless_validation(self, rows: Tuple[EpochRow, ...]) -> Tuple[EpochRow, ...]:
        """Drop the second of two numbers without names unless it falls like a validation loss: an accuracy rises."""
        values = [row.validation for row in rows]
        if self._loss_kind != NAMELESS or (_is_similar(rows) and (_falls(values) or _fell(values))):
            return rows
        return tuple(row._replace(validation=None) for row in rows)

    def _has_bare_train(self) -> bool:
        return any(("bare", "train", "") in epoch.final for epoch in self._epochs.values()) or any(
            ("bare", "train", "") in point.values for point in self.points
        )

    def _choose_loss_kind(self) -> None:
        """Take numbers called loss, else errors, else numbers without a name."""
        kinds = self._kinds()
        self._loss_kind = next((kind for kind in LOSS_KINDS if kind in kinds), LOSS_KINDS[0])

    def _kinds(self) -> Set[str]:
        stores = (store for epoch in self._epochs.values() for store in (epoch.final, epoch.running))
        keys = {key[0] for store in stores for key in store}
        return keys | {key[0] for point in self.points for key in point.values}

    def _rows(self) -> Tuple[EpochRow, ...]:
        epochs = [epoch for epoch in self._epochs.values() if epoch.final or epoch.running]
        kind = self._loss_kind
        n_final = sum(epoch.has(kind, "") or epoch.has(kind, "train") for epoch in epochs)
        if 2 * n_final > len(epochs):
            epochs = [epoch for epoch in epochs if epoch.final]
        elif n_final == 1 and len(epochs) >= FEWEST_EPOCHS:
            epochs = [epoch.of_steps() for epoch in epochs]
        rows = self._complete([self._row(epoch) for epoch in epochs])
        return tuple(rows or self._complete(self._rows_of_points(self.points)))

    def _add_to_epoch(self, observation: Observation, number: int) -> bool:
        current = self._current
        is_new = current is None or number > current.epoch
        if current is not None and not is_new and not observation.values and number < current.epoch:
            # A heading of an earlier epoch: its values decide whether the training was restarted.
            self._disturbed = self._disturbed or not self._several_ranks
            self._heading = number
            return False
        if current is not None and not is_new and self._is_restart(observation, number):
            self.restarted = is_new = True
            self._epochs = {epoch: row for epoch, row in self._epochs.items() if epoch < number}
        self._disturbed = self._disturbed and not is_new
        epoch = self._epochs.get(number)
        if epoch is None:
            is_last = not self._epochs or number > next(reversed(self._epochs))
            epoch = self._epochs[number] = _Epoch(number)
            if not is_last:
                self._epochs = dict(sorted(self._epochs.items()))
        if is_new:
            self._current, self._step = epoch, 0
        self._heading = None
        return self._store(epoch, observation) or is_new

    def _is_restart(self, observation: Observation, number: int) -> bool:
        """Return True if an epoch is repeated by a restarted training, and not printed once more by another rank."""
        assert self._current is not None
        if number not in self._epochs:
            return not self._several_ranks
        if observation.kind != "line":
            return number < self._current.epoch and not self._several_ranks
        if not {_key(value) for value in observation.values} & set(self._epochs[number].final):
            return self._disturbed and number < self._current.epoch
        if self._disturbed:
            return True
        if number == self._current.epoch:
            self._several_ranks = True
            return False
        return not (self._several_ranks and number >= self._current.epoch - 1)

    def _store(self, epoch: _Epoch, observation: Observation) -> bool:
        is_record = observation.kind == "record"
        is_running = observation.kind in ("bar", "keras", "step") or (is_record and observation.step is not None)
        for key, value in _first_of_each(observation).items():
            per_epoch = value.quantity.per == "epoch" or (is_record and key[1] in ("validation", "test"))
            is_step = value.quantity.per == "step" or (is_running and not per_epoch)
            store = epoch.running if is_step else epoch.final
            if key not in store or key[0] == "lr":
                store[key] = _Mean()
            is_average = is_step and (key[0] not in LOSS_KINDS or (observation.kind == "bar" and bool(key[1])))
            store[key].add(value.number, value.average, is_average)
        if is_running and observation.values:
            self._note_step(epoch.epoch, observation)
        return self._advances(observation) or (bool(observation.values) and not is_running)

    def _note_step(self, epoch: int, observation: Observation) -> None:
        """Keep the values of a step, for a log that has too few epochs to show a course."""
        values = {key: value.number for key, value in _first_of_each(observation).items()}
        last = self._steps_of_epochs[-1] if self._steps_of_epochs else None
        if last is not None and self._step_heading is not None and self._noted_heading is self._step_heading:
            last.values.update(values)
            return
        self._noted_heading = self._step_heading
        self._steps_of_epochs.append(Point(len(self._steps_of_epochs), float(epoch), values))
        if len(self._steps_of_epochs) > 2 * MAX_POINTS:
            self._steps_of_epochs = _thinned(self._steps_of_epochs)

    def _advances(self, observation: Observation) -> bool:
        """Return True if the step counter of a line is beyond the last one."""
        if observation.step is None:
            return False
        if observation.n_steps and observation.epoch is not None:
            self.steps_per_epoch = observation.n_steps
        advanced = observation.step > self._step
        self._step = max(self._step, observation.step) if observation.n_steps is None else observation.step
        return advanced

    def _add_point(self, observation: Observation) -> bool:
        advances = self._advances(observation)
        if not observation.values:
            return advances
        values = {key: value.number for key, value in _first_of_each(observation).items()}
        position = self._position(observation)
        last = self.points[-1] if self.points else None
        if last is not None and observation.step is not None and position == last.position:
            last.values.update({key: number for key, number in values.items() if key not in last.values})
            return advances
        if last is not None and observation.step is not None and position < last.position:
            # A line of settings such as `max_steps=100000, lr=1e-3` comes before the first step.
            self.restarted = self.restarted or any(kind != "lr" for kind, *_ in last.values)
            self.points = [point for point in self.points if point.position < position]
        self._n_points += 1
        self.points.append(Point(position, observation.epoch, values))
        if len(self.points) > 2 * MAX_POINTS:
            self.points = _thinned(self.points)
        return True

    def _position(self, observation: Observation) -> int:
        """Return the step of a point; where a counter begins again after its end, as in another epoch, steps add up."""
        if observation.step is None:
            return max(self._step, self._n_points)
        last, total = self._last_count, observation.n_steps
        if total and last[1] == total and observation.step < last[0] and last[0] >= COUNTED_SHARE * total:
            self._steps_before += total
        is_plan = total and observation.kind == "step" and self._current is None and not self._steps_before
        self.n_steps = (total or 0) if is_plan else 0 if self._steps_before else self.n_steps
        self._last_count = (observation.step, total)
        return observation.step + self._steps_before

    def _row(self, epoch: _Epoch) -> EpochRow:
        train_parts = {**epoch.parts(""), **epoch.parts("train")}
        validation_parts = epoch.parts("validation") or epoch.parts("test")
        kind = self._loss_kind
        bare = epoch.value(("bare", "validation", ""))
        if bare is not None:
            self._bare[epoch.epoch] = bare
        train = epoch.first(((kind, "train", ""), (kind, "", "")))
        validation = epoch.first(((kind, "validation", ""), (kind, "test", "")))
        r = epoch.first((("r", "validation", ""), ("r", "", ""), ("r", "test", "")))
        reward = epoch.value(("reward", "", ""))
        others = {**epoch.parts("", OTHER), **epoch.parts("train", OTHER)}
        validation_others = epoch.parts("validation", OTHER) or epoch.parts("test", OTHER)
        if (train is None or kind == "error") and not train_parts:
            train_parts = terms_of(others)
            train = None if train_parts else train
        if (validation is None or kind == "error") and not validation_parts:
            validation_parts = terms_of(validation_others)
            validation = None if validation_parts else validation
        train = self._total(train, train_parts, False)
        validation = self._total(validation, validation_parts, True)
        lr, norm = epoch.value(("lr", "", "")), epoch.value(("grad_norm", "", ""))
        fake_score = epoch.value((FAKE_SCORE, "", ""))
        return EpochRow(
            epoch.epoch,
            train,
            validation,
            lr,
            r,
            norm,
            {**named_parts(others), **train_parts},
            {**named_parts(validation_others), **validation_parts},
            others,
            validation_others,
            fake_score,
            reward,
        )

    def _total(self, total: Optional[float], parts: Dict[str, float], is_validation: bool) -> Optional[float]:
        """Return the loss of a split; None if it shows no progress, because its parts balance each other."""
        words = {word for name in parts for word in name.split("_")}
        is_balanced = (
            self._n_rewards >= FEWEST_REWARDS or words & REINFORCEMENT or (total is None and words & ADVERSARIAL)
        )
        if is_balanced and all(map(math.isfinite, (*parts.values(), total or 0.0))):
            self.is_adversarial = True
            return None
        if total is None and parts:
            total = _whole_of(parts)
        if total is not None or not parts:
            return total
        if not is_validation:
            self.summed_parts = tuple(parts)
        return math.fsum(parts.values()) if all(map(math.isfinite, parts.values())) else math.nan

    def _rows_of_points(self, points: List[Point]) -> List[EpochRow]:
        """Divide points into whole epochs if they have enough of them, else into blocks of equal size."""
        if not points:
            return []
        epochs = [point.epoch for point in points if point.epoch is not None]
        if points is self.points and len(epochs) == len(points) and epochs and max(epochs) >= WHOLE_EPOCHS:
            groups: Dict[int, _Epoch] = {}
            for point in points:
                number = _whole(point.epoch or 0.0)
                _fill(groups.setdefault(number, _Epoch(number)), point)
            return [self._row(groups[number]) for number in sorted(groups)]
        size = self._block_size(points)
        blocks = []
        for number, start in enumerate(range(0, len(points) - size + 1, size), 1):
            block = _Epoch(number)
            for point in points[start : start + size]:
                _fill(block, point)
            blocks.append(self._row(block))
        self.is_blocks = any(row.train is not None or row.validation is not None for row in blocks)
        return blocks

    def _block_size(self, points: List[Point]) -> int:
        n_evaluations = sum(any(key[1] == "validation" for key in point.values) for point in points)
        if n_evaluations >= FEWEST_BLOCKS and n_evaluations == len(points):
            return 1
        per_block = max(min(FEWEST_POINTS_PER_BLOCK, len(points) // USUAL_BLOCKS), -(-len(points) // BLOCKS))
        return per_block if len(points) >= FEWEST_BLOCKS * FEWEST_POINTS_PER_BLOCK else 1

    def _complete(self, rows: List[EpochRow]) -> List[EpochRow]:
        """Give every row a training loss: of a log that prints only validation, that one."""
        if self.is_adversarial:
            without_total = [row for row in rows if row.train is None]
            rows_of_parts = tuple(row for row in without_total if len(row.train_parts) > 1 or row.reward is not None)
            self.balanced_rows = rows_of_parts or self.balanced_rows
        if all(row.train is None for row in rows):
            rows = [row for row in rows if row.validation is not None]
            self.validation_only = bool(rows)
            return [row._replace(train=row.validation, validation=None) for row in rows]
        return [row for row in rows if row.train is not None]


def _with_summands(rows: Tuple[EpochRow, ...]) -> Tuple[EpochRow, ...]:
    """Add the numbers that add up to the total to its parts, whatever they are called."""
    weights = part_weights([(row.train, {**row.others, **row.train_parts}) for row in rows if row.train is not None])
    if not weights:
        return rows
    return tuple(
        row._replace(
            train_parts={**row.train_parts, **{name: row.others[name] for name in weights if name in row.others}},
            validation_parts={
                **row.validation_parts,
                **{name: row.validation_others[name] for name in weights if name in row.validation_others},
            },
        )
        for row in rows
    )


def _fill(epoch: _Epoch, point: Point) -> None:
    for key, number in point.values.items():
        epoch.running.setdefault(key, _Mean()).add(number)


def _are_similar(pairs: Sequence[Tuple[float, float]]) -> bool:
    """Return True if two numbers are of the same size in each of the first epochs."""
    return all(train and 0.5 < abs(value / train) < 2.0 for train, value in pairs[:WHOLE_EPOCHS])


def _is_similar(rows: Sequence[EpochRow]) -> bool:
    return _are_similar([(row.train, row.validation) for row in rows if row.train and row.validation is not None])


def _whole_of(parts: Dict[str, float]) -> Optional[float]:
    """Return the number that is the sum of all others, or bears the name of the whole model; None if none does."""
    named_wholes = [value for name, value in parts.items() if name in WHOLE_MODELS]
    if len(named_wholes) == 1 and not named_wholes[0] < 0:
        return named_wholes[0]
    total = math.fsum(parts.values())
    wholes = [value for value in parts.values() if value and abs(total - 2 * value) <= ROUNDING * abs(value)]
    return wholes[0] if len(parts) > 2 and len(wholes) == 1 and math.isfinite(total) else None


def _vanishes(course: Sequence[Optional[float]]) -> bool:
    """Return True if all values after the first are exactly 0."""
    return len(course) >= FEW_EPOCHS and not any(course[1:])


def _falls(course: Sequence[Optional[float]]) -> bool:
    """Return True if the last third of the values is below the first, and the first value is no low one."""
    values = [value for value in course if value is not None and math.isfinite(value)]
    third = max(1, len(values) // 3)
    is_high = len(values) > 1 and values[0] >= sorted(values)[len(values) // 2]
    return is_high and sum(values[-third:]) < sum(values[:third])


def _falls_beyond_noise(course: Sequence[Optional[float]]) -> bool:
    """Return True if values fall by more than they differ from one to the next."""
    values = [value for value in course if value is not None and math.isfinite(value)]
    third = max(1, len(values) // 3)
    jumps = [abs(b - a) for a, b in zip(values, values[1:])]
    return (sum(values[:third]) - sum(values[-third:])) / third > sum(jumps) / len(jumps)


def _fell(course: Sequence[Optional[float]]) -> bool:
    """Return True if the values fell steadily from the first before they rose, as a loss that diverges does.

    An accuracy that collapses rises first.
    """
    values = [value for value in course if value is not None and math.isfinite(value)]
    lowest = min(range(len(values)), key=values.__getitem__) if values else 0
    n_falls = sum(b < a for a, b in zip(values[:lowest], values[1 : lowest + 1]))
    is_steady = lowest >= FEWEST_FALLS and n_falls >= STEADY * lowest
    return is_steady and values[0] - values[lowest] > FALL_SHARE * abs(values[0])


def _thinned(points: List[Point]) -> List[Point]:
    """Return every other point; points with a number that is not finite stay."""
    return [p for i, p in enumerate(points) if i % 2 == 0 or not all(map(math.isfinite, p.values.values()))]


def _first_of_each(observation: Observation) -> Dict[Key, Value]:
    """Return the first value of each quantity in a line: some print the loss in two units."""
    values: Dict[Key, Value] = {}
    for value in observation.values:
        values.setdefault(_key(value), value)
    return values


def _whole(epoch: float) -> int:
    """Return the epoch, counted from 1, during which a fraction of epochs is reached."""
    return max(1, math.ceil(epoch))


def _key(value: Value) -> Key:
    quantity = value.quantity
    if quantity.kind not in (*LOSS_KINDS, OTHER):
        return (quantity.kind, (quantity.split or "") if quantity.kind == "r" else "", "")
    return (quantity.kind, quantity.split or "", quantity.part or "")
