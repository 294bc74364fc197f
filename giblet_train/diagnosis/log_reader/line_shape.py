"""Remember how lines of one shape, which differ only in the digits of their numbers, are read.

Most lines of a log have one of a few shapes. What a number means is searched in the first of them only.
"""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Dict, FrozenSet, Hashable, List, Optional, Sequence, Tuple

from giblet_train.diagnosis.log_reader.observation import Observation, Value

MAX_SHAPES = 512
MAX_READINGS = 8
"""States of the parser in which lines of one shape are remembered."""
FEWEST_LINES = 2
"""Lines from which the places of the quantities are learned."""
LARGEST = 1e12
"""Size from which a number may be read as something other than a counter."""
_DIGITS = re.compile(r"(?<![\w@.])([-+]?\.?\d(?:[\d.,'_]*\d)?(?:[eE][-+]?\d{1,3})?)")

State = Tuple[Any, ...]
"""State of the parser on which the reading of a line depends."""


class Reading:
    """Quantities of the lines of one shape, and the numbers that print them."""

    def __init__(self) -> None:
        self.n_lines = 0
        self.is_fixed = True
        """False if equal lines were read differently, or a quantity is no number of its line."""
        self.state: State = ()
        """State of the parser after such a line."""
        self._example: Optional[Observation] = None
        self._sources: List[FrozenSet[Tuple[int, bool]]] = []
        """(place, is the logarithm) of the numbers that each quantity may be: several while they are equal."""

    def learn(self, numbers: Sequence[str], observation: Optional[Observation], state: State) -> None:
        """Compare what was read in a line with its numbers."""
        sources = [_sources(number, may_be_log, numbers) for number, may_be_log in _quantities(observation)]
        if self.n_lines:
            is_equal = state == self.state and _frame(observation) == _frame(self._example)
            self.is_fixed = self.is_fixed and is_equal and len(sources) == len(self._sources)
            sources = [a & b for a, b in zip(self._sources, sources)]
        self.is_fixed = self.is_fixed and all(sources)
        self._example, self._sources, self.state = observation, sources, state
        self.n_lines += 1

    def read(self, numbers: Sequence[str]) -> "Tuple[bool, Optional[Observation]]":
        """Return (True, observation) of another line of the shape; (False, None) if the line must be parsed."""
        example = self._example
        if not self.is_fixed or self.n_lines < FEWEST_LINES:
            return False, None
        if example is None:
            return True, None
        quantities: List[float] = []
        for sources in self._sources:
            number = _number(sources, numbers)
            if number is None:
                return False, None
            quantities.append(number)
        return _with_quantities(example, quantities)


class LineShape:
    """Lines that differ only in the digits of their numbers."""

    def __init__(self) -> None:
        self.readings: Dict[State, Reading] = {}
        self.is_plain = False
        """True if such lines show values, and are known to state no error."""
        self._words: Dict[str, bool] = {}

    def has(self, words: str, is_in: Callable[[str], bool], text: str) -> bool:
        """Return whether such a line has certain words, which are searched in the first of them only."""
        has_words = self._words.get(words)
        if has_words is None:
            has_words = self._words[words] = is_in(text)
        return has_words

    def reading(self, state: State) -> Optional[Reading]:
        """Return how lines are read in a state of the parser; None if too many states are known."""
        reading = self.readings.get(state)
        if reading is None and len(self.readings) < MAX_READINGS:
            reading = self.readings[state] = Reading()
        return reading


class LineShapes:
    """All shapes of a log."""

    def __init__(self) -> None:
        self._shapes: Dict[Tuple[Hashable, ...], LineShape] = {}

    def shape_of(self, text: str) -> "Tuple[Optional[LineShape], Sequence[str]]":
        """Return the shape of a line, None if too many are known, and its numbers.

        Digits behind a letter, as in `acc@5`, belong to a name.
        """
        pieces = _DIGITS.split(text)
        numbers = pieces[1::2]
        key = (*pieces[::2], *map(str.isdigit, numbers))
        shape = self._shapes.get(key)
        if shape is None and len(self._shapes) < MAX_SHAPES:
            shape = self._shapes[key] = LineShape()
        return shape, numbers


def places_of(text: str) -> Dict[int, int]:
    """Return where each number of a line begins -> its place among the numbers of its shape."""
    return {match.start(): place for place, match in enumerate(_DIGITS.finditer(text))}


def _quantities(observation: Optional[Observation]) -> List[Tuple[float, bool]]:
    """Return (number, may be a logarithm) of an observation, in the order of `_with_quantities`.

    Words such as `nan` belong to the shape: they are the same in all its lines.
    """
    if observation is None:
        return []
    counters = (observation.epoch, observation.n_epochs, observation.step, observation.n_steps)
    quantities = [(float(counter), False) for counter in counters if counter is not None]
    for value in observation.values:
        numbers = (value.number, value.average)
        is_error = value.quantity.kind == "error"
        quantities += [(number, is_error) for number in numbers if number is not None and math.isfinite(number)]
    return quantities


def _with_quantities(example: Observation, quantities: List[float]) -> "Tuple[bool, Optional[Observation]]":
    """Return an observation like another one, with other numbers."""
    rest = iter(quantities)
    epoch = None if example.epoch is None else next(rest)
    n_epochs = None if example.n_epochs is None else int(next(rest))
    step = None if example.step is None else int(next(rest))
    n_steps = None if example.n_steps is None else int(next(rest))
    values = []
    for quantity, number, average in example.values:
        number = next(rest) if math.isfinite(number) else number
        if average is not None:
            average = next(rest) if math.isfinite(average) else average
            if (average < 0) != (number < 0):
                return False, None  # a change, not an average
        values.append(Value(quantity, number, average))
    return True, Observation(tuple(values), epoch, n_epochs, step, n_steps, *example[5:])


def _frame(observation: Optional[Observation]) -> Hashable:
    """Return what an observation shows, without its numbers."""
    if observation is None:
        return None
    counters = (observation.epoch, observation.n_epochs, observation.step, observation.n_steps)
    return (
        tuple(counter is None for counter in counters),
        tuple((value.quantity, value.average is None) for value in observation.values),
        observation[5:],
    )


def _sources(quantity: float, may_be_log: bool, numbers: Sequence[str]) -> FrozenSet[Tuple[int, bool]]:
    """Return the places of the numbers that print a quantity, or whose logarithm it is."""
    sources = set()
    for place, text in enumerate(numbers):
        number = _plain_number(text)
        if number == quantity:
            sources.add((place, False))
        elif may_be_log and number is not None and number > 0 and math.log(number) == quantity:
            sources.add((place, True))
    return frozenset(sources)


def _number(sources: FrozenSet[Tuple[int, bool]], numbers: Sequence[str]) -> Optional[float]:
    """Return the quantity that a line prints; None if it is not clear which of its numbers it is."""
    if len(sources) > 1 and len({(numbers[place], is_log) for place, is_log in sources}) > 1:
        return None
    place, is_log = next(iter(sources))
    number = _plain_number(numbers[place])
    if number is None or not is_log:
        return number
    return math.log(number) if number > 0 else None


def _plain_number(text: str) -> Optional[float]:
    """Return a number; None if it is one of another notation, or unusually large."""
    try:
        number = float(text.replace("_", "x"))
    except ValueError:
        return None
    return number if -LARGEST < number < LARGEST else None
