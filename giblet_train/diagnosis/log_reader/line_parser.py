"""Parse one line of a log: its epoch, its step, and every quantity printed in it, whatever the layout."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from giblet_train.diagnosis.log_reader.key_names import Quantity, component_of, quantity_of, split_of, words_of
from giblet_train.diagnosis.log_reader.number_format import NUMBER, parse_number, uses_decimal_comma

_WORD = r"[^\W\d_][\w@./]*"
_PAIR = re.compile(
    rf"(?<!\w)(?P<name>{_WORD}(?:[ -]{_WORD}){{0,4}})['\"]?\s{{0,3}}(?P<mark>[:=]+|->|→|is\b)?[\s\u00a0]{{0,8}}"
    rf"['\"\[(]{{0,2}}(?:tensor\(|array\(|np\.float\d+\()?(?P<number>{NUMBER})"
    rf"(?:\s?\((?P<average>{NUMBER})\))?",
    re.IGNORECASE,
)
_NUMBER = re.compile(NUMBER, re.IGNORECASE)
_NOT_A_HEADER = re.compile(
    r"(?:@|\b(?:from|at|since|until|for|every|of|in|to|total|num\w*|max\w*|resum\w*|load\w*|restor\w*|sav\w*|checkpoint\w*"
    r"|previous|last|stopp\w*|warm\w*|per))[\s:(=\"']*$|\b(?:best|improved|saved|saving)\b",
    re.IGNORECASE,
)
_EPOCH = re.compile(
    r"(?<![\w-])(?:ep|epoch)\b(?:\((?P<mode>\w+)\))?\.?['\"]?\s*[:=#-]?\s*[\[(]?\s*(?P<epoch>\d{1,9}(?:\.\d{1,9})?)"
    r"(?:\s*(?:/|of|out of)\s*(?P<of>\d{1,9}))?\s*[\])]?(?!\d|\s*(?:%|s\b|min|h\b|:\d))",
    re.IGNORECASE,
)
_TIMM = re.compile(
    r"\s*(?:(?:Train|Test|Val\w*|Eval\w*):\s+(?:(?P<epoch>\d{1,9})\s+)?\[|\[(?P<first>\d{1,9}):)"
    r"\s*(?P<step>\d{1,12})/\s*(?P<steps>\d{1,12})\b",
    re.IGNORECASE,
)
_BRACKET_STEP = re.compile(r"\s*[:,]?\s*[\[(]\s*(\d{1,12})\s*/\s*(\d{1,12})\b")
_STEP = re.compile(
    r"(?<![\w-])(?:global[_ ])?(?:step|iter|iteration|batch|update|num_updates)s?\b\s*[:=#]?\s*\[?\s*(\d{1,12})(?!\d)"
    r"(?:\s*/\s*(\d{1,12}))?",
    re.IGNORECASE,
)
_BARE_STEP = re.compile(r"^\s*\[\s*(\d{1,12})\s*/\s*(\d{1,12})\s*\]")
_BAR = re.compile(r"\d+%\|[^|]*\|\s*(\d{1,12})/(\d{1,12})\s*\[")
_KERAS_BAR = re.compile(r"^\s*(\d{1,12})/(\d{1,12})\s+(?:\[[=>.\s]*\]|[━╸╺ ]+(?=\d|\s))")
_UNREADABLE = re.compile(r"\bloss['\"]?\s*[:=]+\s*['\"\[(]*[-+]?[\d.,]", re.IGNORECASE)
_INNER_COMMA = re.compile(r"\d,\d")
_KEYWORDS = ("loss", "lr", "learning", "corr", "pearson", "pcc", "norm", "nll", "objective", "cost")
"""At least one of them is in every line with a quantity, but for a correlation called `r`."""
_SPLIT_WORDS = ("train", "trn", "val", "eval", "dev", "test", "heldout", "tr")
_R = re.compile(r"\br\s*[:=]", re.IGNORECASE)
_NOT_FINITE = re.compile(r"(?<![\w'\"])(-?)(nan|inf)(?![\w'\"])")
_MAX_DICT = 20_000
MAX_COUNT = 1e12
"""Largest epoch or step that is believed."""


class Value(NamedTuple):
    """A number printed in a line, with its meaning."""

    quantity: Quantity
    number: float
    """May be nan or infinite."""
    average: Optional[float] = None
    """Running average printed in parentheses after the number."""


class Observation(NamedTuple):
    """Everything that one line shows of a training."""

    values: Tuple[Value, ...] = ()
    epoch: Optional[float] = None
    """Epoch number; fractional in Hugging Face logs. None if the line has none."""
    n_epochs: Optional[int] = None
    step: Optional[int] = None
    n_steps: Optional[int] = None
    """Steps per epoch, where the line prints `step/steps`."""
    kind: str = "line"
    """`line`, `step` (one of several lines per epoch), `bar` or `keras` (progress bars), `record` (dict, table row)."""
    unreadable: bool = False
    """True if the line prints a loss whose number cannot be read."""
    final: bool = False
    """True for a summary of the whole training, which is no point of its curve."""
    fractional: bool = False
    """True if the epoch counts fractions, as in Hugging Face records."""


class LineParser:
    """Parses lines. Remembers whether the log uses decimal commas, and the split of the section that is being read."""

    def __init__(self) -> None:
        self._decimal_comma = False
        self._section: Optional[str] = None

    def parse(self, text: str) -> Optional[Observation]:
        """Return what a line without prefixes shows; None if it shows nothing of a training."""
        record = _mapping(text)
        if record is not None:
            return self.record(record)
        position = _position(text)
        self._section = None if position.epoch is not None else self._section
        values, unreadable = self._values(text, position)
        self._note_section(position, values)
        if position.epoch is None and position.step is None and not values and not unreadable:
            return None
        return position._replace(values=values, unreadable=unreadable)

    def record(self, record: Dict[str, Any]) -> Optional[Observation]:
        """Return what a dict, JSON object or table row shows; None if it shows nothing of a training."""
        values: List[Value] = []
        epoch: Optional[float] = None
        step: Optional[int] = None
        fractional = False
        for name, item in _flatten(record):
            number = self.number(item)
            words = words_of(name)
            if number is None or not words:
                continue
            if words[-1] == "epoch" and not set(words) & {"loss", "num", "max", "total", "best"}:
                epoch = number if abs(number) < MAX_COUNT else epoch
                fractional = isinstance(item, float) or "." in str(item)
            elif words[-1] in ("step", "iter", "iteration", "steps") and len(words) <= 3 and abs(number) < MAX_COUNT:
                step = int(number)
            else:
                quantity = quantity_of(name)
                values += [Value(quantity, number)] if quantity else []
        if not values:
            return None
        is_final = "train_runtime" in record
        return Observation(tuple(values), epoch, None, step, None, "record", False, is_final, fractional)

    def note_heading(self, text: str) -> None:
        """Remember the split that a short line without numbers announces for the lines after it."""
        if len(text) < 60:
            self._section = split_of(text) or self._section

    def number(self, item: Any) -> Optional[float]:
        """Return a cell of a record as a number; None if it is not one."""
        if isinstance(item, bool) or item is None:
            return None
        if isinstance(item, (int, float)):
            return float(item)
        text = str(item).strip()
        return parse_number(text, self._decimal_comma) if _NUMBER.fullmatch(text) else None

    def learn_comma(self, text: str) -> None:
        """Take note of decimal commas or decimal points in a text."""
        style = uses_decimal_comma(match[0] for match in _NUMBER.finditer(text))
        self._decimal_comma = self._decimal_comma if style is None else style

    def _values(self, text: str, position: Observation) -> Tuple[Tuple[Value, ...], bool]:
        """Return the quantities of a line, and whether a printed loss could not be read."""
        if not _may_have_values(text, position):
            return (), False
        if _INNER_COMMA.search(text):
            self.learn_comma(text)
        values: List[Value] = []
        context = _Context(None if position.epoch is not None else self._section)
        end, n_losses = 0, 0
        for match in _PAIR.finditer(text):
            context.read_gap(text[end : match.start("name")])
            end = match.end()
            quantity = context.meaning(match, position)
            number = parse_number(match["number"], self._decimal_comma)
            if quantity is None or number is None:
                continue
            n_losses += quantity.kind == "loss"
            average = parse_number(match["average"], self._decimal_comma) if match["average"] else None
            average = number if position.kind == "keras" else average
            values.append(Value(quantity, number, average))
        return tuple(values), not n_losses and bool(_UNREADABLE.search(text))

    def _note_section(self, position: Observation, values: Tuple[Value, ...]) -> None:
        """Remember the split of a progress line for the lines after it."""
        if values and position.kind != "line" and position.epoch is None:
            self._section = values[0].quantity.split


class _Context:
    """Split that applies to the names of a line: from the text between pairs, or from an earlier name."""

    def __init__(self, section: Optional[str]) -> None:
        self._from_text = section
        self._from_name: Optional[str] = None

    def read_gap(self, text: str) -> None:
        """Read the text between two pairs."""
        lowered = text.lower()
        split = split_of(text) if any(word in lowered for word in _SPLIT_WORDS) else None
        if split:
            self._from_text, self._from_name = split, None

    def meaning(self, match: "re.Match[str]", position: Observation) -> Optional[Quantity]:
        """Return the meaning of a printed pair; None if it is of no use here."""
        name = match["name"]
        quantity = quantity_of(name)
        if quantity is None:
            last_word = name.rsplit(" ", 1)[-1]
            component = component_of(last_word) if position.epoch is not None else None
            is_loss = component or (last_word.lower() == "total" and position.epoch is not None)
            split = split_of(name) or self._from_text
            return Quantity("loss", split, component) if is_loss and len(name.split()) <= 2 else None
        if quantity.kind != "loss":
            is_named = quantity.kind != "r" or match["mark"] is not None
            return quantity if is_named and not (quantity.kind == "r" and self._from_text == "train") else None
        if quantity.split and " " in name:
            self._from_name = quantity.split
        split = quantity.split or self._from_name or self._from_text
        return quantity._replace(split=split)


def _may_have_values(text: str, position: Observation) -> bool:
    """Return False if a line certainly has no quantity; components alone count in a line of an epoch."""
    lowered = text.lower()
    return (
        any(word in lowered for word in _KEYWORDS)
        or _R.search(text) is not None
        or (position.epoch is not None and position.kind == "line")
    )


def _position(text: str) -> Observation:
    """Return epoch and step of a line, without values."""
    bar = _BAR.search(text)
    keras = None if bar else _KERAS_BAR.match(text)
    timm = _TIMM.match(text)
    if timm:
        number = timm["epoch"] or timm["first"]
        timm_epoch = float(number) if number else None
        return Observation((), timm_epoch, None, int(timm["step"]), int(timm["steps"]), "step")
    epoch, n_epochs, end = _epoch(text)
    if bar or keras:
        counts, kind = (bar, "bar") if bar else (keras, "keras")
        return Observation((), epoch, n_epochs, int(counts[1]), int(counts[2]), kind)  # type: ignore[index]
    bracket = _BRACKET_STEP.match(text, end) if end else None
    counter = bracket or _STEP.search(text, end) or (None if end else _BARE_STEP.match(text))
    if counter is None:
        return Observation((), epoch, n_epochs)
    steps = int(counter[2]) if counter[2] else None
    return Observation((), epoch, n_epochs, int(counter[1]), steps, "step")


def _epoch(text: str) -> Tuple[Optional[float], Optional[int], int]:
    """Return (epoch, number of epochs, end of the match) of the first epoch header in a line."""
    for match in _EPOCH.finditer(text):
        if _NOT_A_HEADER.search(text[: match.start()]):
            continue
        return float(match["epoch"]), int(match["of"]) if match["of"] else None, match.end()
    return None, None, 0


def _mapping(text: str) -> Optional[Dict[str, Any]]:
    """Return a Python dict or JSON object that fills the line, or ends it; None if there is none."""
    start = text.find("{")
    if start < 0 or not text.rstrip().endswith("}") or len(text) > _MAX_DICT or ":" not in text:
        return None
    body = text[start:].strip()
    for parse in (json.loads, _literal):
        try:
            value = parse(body)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, dict) and value:
            return value
    return None


def _literal(body: str) -> Any:
    """Evaluate a Python literal; nan and inf become strings."""
    return ast.literal_eval(_NOT_FINITE.sub(r"'\1\2'", body))


def _flatten(record: Dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[Tuple[str, Any]]:
    for key, item in record.items():
        name = prefix + str(key)
        if isinstance(item, dict) and depth < 3:
            yield from _flatten(item, name + "/", depth + 1)
        else:
            yield name, item
