"""Read a plain command line by the declarations of its command, without the command-line library.

Plain are whole option names, each with its value as the next word, and values that need no explanation. Everything else
is left to the library, which also words the errors: a mistake, an abbreviation, `--name=value`, `--help`, completion.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from giblet_tui.cli.app import VerbGroup, load
from giblet_tui.cli.commands import COMMANDS
from giblet_tui.cli.parameters import Argument, CommandBehindDashes, Option

COMPLETION = "_GIBLET_COMPLETE"
"""Environment variable with which the shell asks for completions."""


class Declaration(NamedTuple):
    """A parameter of a command's function."""

    name: str
    """Name in the function."""
    type: Any
    """Its type, without the marker."""
    marker: Argument | Option | CommandBehindDashes
    """Its declaration on the command line."""
    has_default: bool
    """It may be left out."""
    default: Any
    """Value if it is left out."""

    @property
    def single_type(self) -> Any:
        """Return the type without `| None`."""
        kinds = [kind for kind in get_args(self.type) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 and type(None) in get_args(self.type) else self.type


def declarations(function: Callable[..., Any]) -> Iterator[Declaration]:
    """Yield the parameters of a command's function, in order. All of them have a marker, and none is keyword-only."""
    code, defaults = function.__code__, function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount]
    hints = get_type_hints(function, include_extras=True)
    n_required = len(names) - len(defaults)
    for position, name in enumerate(names):
        kind, marker = get_args(hints[name])
        has_default = position >= n_required
        yield Declaration(name, kind, marker, has_default, defaults[position - n_required] if has_default else None)


class _NotPlain(Exception):
    """The library must read these words."""


def plain_call(words: Sequence[str]) -> partial[Any] | None:
    """Return what carries out a plain command line, or None if the library must read it."""
    if not words or words[0] not in COMMANDS or COMPLETION in os.environ:
        return None
    verb, rest = load(words[0]), words[1:]
    if isinstance(verb, VerbGroup):
        if not rest or rest[0] not in verb.verbs:
            return None
        verb, rest = verb.verbs[rest[0]], rest[1:]
    function = verb.function
    try:
        values = _values(list(declarations(function)), rest)
    except _NotPlain:
        return None
    return partial(function, **values)


def _values(parameters: Sequence[Declaration], words: Sequence[str]) -> dict[str, Any]:
    """Return the value of each parameter that the words name. Raises _NotPlain."""
    options = {name: p for p in parameters if isinstance(p.marker, Option) for name in _names(p, p.marker)}
    values: dict[str, Any] = {}
    positional = []
    rest = iter(words)
    for word in rest:
        if word in options:
            option = options[word]
            _put(values, option, True if option.type is bool else _value(option, next(rest, "")))
        elif word[:1] in ("-", ""):
            raise _NotPlain
        else:
            positional.append(word)
    arguments = [p for p in parameters if isinstance(p.marker, Argument)]
    for number, argument in enumerate(arguments, 1):
        if get_origin(argument.single_type) is list:
            if number < len(arguments):
                raise _NotPlain
            own, positional = positional, []
        else:
            own, positional = positional[:1], positional[1:]
        for word in own:
            _put(values, argument, _value(argument, word))
    if positional or any(p.name not in values and not p.has_default for p in parameters):
        raise _NotPlain
    return values


def _names(parameter: Declaration, option: Option) -> Sequence[str]:
    return option.names or (f"--{parameter.name.replace('_', '-')}",)


def _put(values: dict[str, Any], parameter: Declaration, value: Any) -> None:
    """Store a value; those of a list are collected, and a second one of another parameter is not plain."""
    if get_origin(parameter.single_type) is list:
        values.setdefault(parameter.name, []).append(value)
    elif parameter.name in values:
        raise _NotPlain
    else:
        values[parameter.name] = value


def _value(parameter: Declaration, word: str) -> Any:
    """Return a word as the type of its parameter. Raises _NotPlain."""
    kind = parameter.single_type
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    if word[:1] in ("-", ""):
        raise _NotPlain
    if kind in (str, Path):
        return kind(word)
    if get_origin(kind) is Literal and word in get_args(kind):
        return word
    if kind in (int, float) and word.isascii() and word.isdecimal() and len(word) < 10:
        number = kind(word)
        limits = parameter.marker
        if not isinstance(limits, Option) or (
            (limits.min is None or number >= limits.min) and (limits.max is None or number <= limits.max)
        ):
            return number
    raise _NotPlain
