"""Validate configuration data: unknown keys, types and ranges, and keys against one another. Pure.

Every check is made, so that a file with three mistakes is refused once with three sentences.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from giblet_train.schema.config import (
    TINY_TRS,
    BidsConfig,
    Config,
    Section,
    flatten,
    nearest,
    to_mapping,
)
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.feature_spaces import Problem, space_problems
from giblet_train.schema.notify_target import parse_targets
from giblet_train.schema.type_errors import type_error_in_words


class Check(NamedTuple):
    """A condition that a configuration must not meet, although each of its keys is valid."""

    key: str
    """Dotted key that is reported."""
    violated: Callable[[Config], bool]
    """Return True if the configuration must be refused."""
    sentence: str
    """What is wrong, with `{c...}` for values of the configuration."""
    remedy: str = ""
    """What to do about it."""


CHECKS: tuple[Check, ...] = (
    Check(
        "criteria.completed",
        lambda c: "completed" in c.criteria,
        "criteria.completed: every run has this criterion; give yours another name.",
    ),
    Check(
        "min_lr",
        lambda c: c.min_lr > c.learning_rate,
        "min_lr {c.min_lr:g} is above learning_rate {c.learning_rate:g}.",
    ),
    Check(
        "warmup_epochs",
        lambda c: c.warmup_steps is None and c.warmup_epochs >= c.num_epochs,
        "warmup_epochs {c.warmup_epochs:g} leaves none of the {c.num_epochs} epochs at the base rate.",
        "Shorten the warm-up.",
    ),
    Check(
        "split.fold",
        lambda c: c.split.kind == "blocks" and c.split.fold >= c.split.n_folds,
        "split.fold {c.split.fold} does not exist; split.n_folds {c.split.n_folds} counts from 0.",
    ),
    Check(
        "split.usable_trs",
        lambda c: c.data.simulate == "tiny" and (c.split.usable_trs or 0) > TINY_TRS,
        f"data.simulate: tiny has {TINY_TRS} TRs, fewer than split.usable_trs {{c.split.usable_trs}}.",
        "A split for it: --set split.usable_trs=null --set split.gap_trs=4",
    ),
    Check(
        "data.mask",
        lambda c: c.data.mask == "atlas" and c.data.atlas is None,
        "data.mask: atlas uses the voxels of data.atlas, which is not given.",
    ),
    Check(
        "data.bids.task",
        lambda c: c.data.layout == "bids" and not c.data.bids.task,
        "data.layout: bids reads the runs of one task; name it in data.bids.task.",
    ),
    Check(
        "data.parcellate",
        lambda c: c.data.parcellate and c.data.atlas is None and c.data.simulate is None,
        "data.parcellate needs data.atlas, whose parcels it averages.",
    ),
    Check(
        "data.bids",
        lambda c: (
            c.data.layout == "lab"
            and c.data.bids != BidsConfig(confounds=c.data.bids.confounds if c.data.runs else None)
        ),
        "data.bids is read only with data.layout: bids; with a table of runs (data.runs), only its confounds.",
    ),
    Check(
        "fmri_loss_type",
        lambda c: c.fmri_loss_type != "mse" and c.model.compress != "none",
        "fmri_loss_type {c.fmri_loss_type} needs every voxel; set model.compress: none.",
    ),
    Check(
        "model.kind",
        lambda c: c.model.kind == "dense" and (c.model.compress, c.model.start) != ("none", "zero"),
        "model.kind: dense has no ridge initialisation; set model.compress: none and model.start: zero.",
    ),
    Check(
        "fmri_weight",
        lambda c: not sum(c.component_weights().values()),
        "every loss weight is 0, so nothing would be learnt.",
    ),
    Check(
        "model.window_trs",
        lambda c: c.model.window_trs is not None and c.model.window_trs <= (c.model.context_trs or 0),
        "model.window_trs {c.model.window_trs} is all context; it must exceed context_trs {c.model.context_trs}.",
    ),
)
"""Checks of keys against one another."""


@functools.cache
def _type_hints(section: type) -> Mapping[str, Any]:
    """Return the types of a section's keys. Kept, because each call evaluates every annotation again."""
    return get_type_hints(section)


def validate(value: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """Return the configuration, or None and everything that is wrong with the data."""
    config = None if any(_too_large(value)) else _converted(value)
    if config is None:
        return None, [*_unknown_keys(value, Config), *_wrong_types(value)]
    problems = [*_infinite_numbers(config), *_violations(config)]
    return (None, problems) if problems else (config, [])


def _violations(config: Config) -> Iterator[Problem]:
    for check in CHECKS:
        if check.violated(config):
            yield Problem(check.key, check.sentence.format(c=config), check.remedy)
    try:
        parse_targets(config.watch.notify)
    except ConfigError as error:
        yield Problem("watch.notify", error.message, error.remedy)
    yield from space_problems(config.data)


def _infinite_numbers(config: Config) -> Iterator[Problem]:
    for key, number in flatten(to_mapping(config)):
        if isinstance(number, float) and not math.isfinite(number):
            yield Problem(key, f'"{key}": {number} is too large for a number.')


def _unknown_keys(value: Mapping[str, Any], section: type, path: str = "") -> Iterator[Problem]:
    """Yield every unknown key with the nearest known one, which msgspec does not name."""
    hints = _type_hints(section)
    for key, item in value.items():
        full_key = f"{path}{key}"
        if key not in hints:
            group = _sections_with(key)
            hint = f'; it belongs under "{group}:"' if group else nearest(str(key), list(hints))
            remedy = "" if hint else "configs/base.yaml has every key."
            yield Problem(full_key, f'unknown key "{full_key}"{hint or "."}', remedy)
        elif isinstance(item, Mapping):
            for prefix, kind, group_value in _groups(full_key, hints[key], item):
                yield from _unknown_keys(group_value, kind, prefix)


def _groups(path: str, kind: Any, item: Mapping[str, Any]) -> Iterable[tuple[str, type, Mapping[str, Any]]]:
    """Return (prefix, section, its data) for each section below a key."""
    if get_origin(kind) is dict:
        value_kind = _section_of(get_args(kind)[1])
        if value_kind is None:
            return []
        sections = ((name, data) for name, data in item.items() if isinstance(data, Mapping))
        return [(f"{path}.{name}.", value_kind, data) for name, data in sections]
    section = _section_of(kind)
    return [(f"{path}.", section, item)] if section else []


@functools.cache
def _section_of(kind: Any) -> type[Section] | None:
    """Return the section that a type is, alone or among others such as None; None for a mapping of sections."""
    if get_origin(kind) is dict:
        return None
    return next((k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, Section)), None)


def _sections_with(key: str) -> str:
    sections = {n: t for n, t in _type_hints(Config).items() if isinstance(t, type) and issubclass(t, Section)}
    return next((name for name, kind in sections.items() if key in _type_hints(kind)), "")


LARGEST_WHOLE = 2**53
"""Largest whole number that every program reads exactly."""
TYPOGRAPHIC_MARKS = "“”„‘’"
"""Characters that only look like quotation marks of YAML, as in text from a PDF."""


def _converted(value: Mapping[str, Any]) -> Config | None:
    """Return the configuration, or None if a key is unknown, or a value has a wrong type or is out of range."""
    try:
        return msgspec.convert(value, Config)
    except msgspec.ValidationError:
        return None


def _too_large(value: Mapping[str, Any]) -> Iterator[Problem]:
    for key, item in flatten(value):
        if isinstance(item, int) and abs(item) > LARGEST_WHOLE:
            yield Problem(key, f'"{key}": {item:.0e} is too large for a whole number.')


def _wrong_types(value: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield every value of a wrong type or out of range."""
    yield from _too_large(value)
    texts = {key: item for key, item in flatten(value) if isinstance(item, str)}
    data = _known_keys(value, Config)
    for problem in (*_member_errors(data, Config), *_type_errors(data, Config)):
        is_typographic = any(mark in texts.get(problem.key, "") for mark in TYPOGRAPHIC_MARKS)
        remedy = 'Type " in place of the typographic quotation marks, or leave them out.'
        yield problem._replace(remedy=remedy) if is_typographic else problem


def _member_errors(data: dict[str, Any], section: type, path: str = "") -> Iterator[Problem]:
    """Yield the type errors of sections that have names of their own, and take these out.

    msgspec does not say which of them an error is in.
    """
    for key, kind in _type_hints(section).items():
        item, inner = data.get(key), _section_of(kind)
        if not isinstance(item, dict):
            continue
        if inner is not None:
            yield from _member_errors(item, inner, f"{path}{key}.")
        elif get_origin(kind) is dict and (inner := _section_of(get_args(kind)[1])):
            del data[key]
            for name, member in item.items():
                if not isinstance(name, str):
                    yield Problem(f"{path}{key}", f'"{path}{key}": {name} is not a name.', "Put it in quotes.")
                if isinstance(member, dict):
                    yield from _member_errors(member, inner, f"{path}{key}.{name}.")
                if member is not None or inner is get_args(kind)[1]:
                    yield from _type_errors(member, inner, f"{path}{key}.{name}.")


def _type_errors(data: Any, kind: type, prefix: str = "") -> Iterator[Problem]:
    """Yield each type error of a section: msgspec stops at the first, which is then taken out."""
    removed = False
    while True:
        try:
            msgspec.convert(data, kind)
            return
        except msgspec.ValidationError as error:
            problem = _type_error(str(error), prefix)
            if not (removed and "missing required" in problem.sentence):
                yield problem
            removed = _remove(data, problem.key.removeprefix(prefix))
            if not removed:
                return


def _known_keys(value: Mapping[str, Any], section: type, path: str = "") -> dict[str, Any]:
    """Return a copy of the data without unknown keys."""
    hints = _type_hints(section)
    data = {key: item for key, item in value.items() if key in hints}
    for key, item in data.items():
        if isinstance(item, Mapping):
            groups = _groups(f"{path}{key}", hints[key], item)
            data[key] = dict(item)
            for prefix, kind, group_value in groups:
                name = prefix.removeprefix(f"{path}{key}.").rstrip(".")
                copy = _known_keys(group_value, kind, prefix)
                data[key] = {**data[key], name: copy} if name else copy
    return data


def _remove(data: Any, full_key: str) -> bool:
    """Take a key out of nested data. Returns False if it is not there."""
    *parents, last = full_key.split(".")
    for parent in parents:
        data = data.get(parent) if isinstance(data, dict) else None
    if not isinstance(data, dict) or last not in data:
        return False
    del data[last]
    return True


def _type_error(error: str, prefix: str) -> Problem:
    """Return the key and a sentence for a msgspec error such as "Expected `int`, got `str` - at `$.data.tr`"."""
    what, _, path = error.replace("Object missing required field", "missing required key").partition(" - at `$")
    key = prefix + re.sub(r"\[.*?\]", "", path).strip(".`")
    if what.startswith("Invalid enum value") and (choices := _choices(key)):
        what = f"{what.removeprefix('Invalid enum value ')} is none of {', '.join(choices)}"
    what = type_error_in_words(what)
    place = f'"{key.rstrip(".")}": ' if key else ""
    return Problem(key.rstrip("."), f"{place}{what[:1].lower()}{what[1:]}.")


def _choices(path: str) -> tuple[str, ...]:
    """Return the words that a dotted key may have; () if it is no choice among words."""
    section: Any = Config
    *parents, last = path.split(".")
    for parent in parents:
        # A mapping's next part is a name, whose section its values have.
        is_mapping = get_origin(section) is dict
        section = get_args(section)[1] if is_mapping else _type_hints(_section_of(section) or section)[parent]
    section = _section_of(section) or section
    hint = _type_hints(section).get(last)
    kinds = (hint, *get_args(hint))
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
