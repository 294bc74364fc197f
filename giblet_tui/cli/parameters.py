"""How commands declare their arguments and options, and how they end with an exit code.

A declaration is an annotation: `Annotated[str, Option("--note", help="...")]`. It needs no command-line library, whose
import takes five times the CPU of starting Python. `plain_words` reads most command lines by these declarations alone,
and `parser` builds the library's commands from the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Suggest = Callable[[str], list[str]]
"""Returns the words that the shell offers for the beginning of one."""


class Argument(NamedTuple):
    """An argument, known by its position."""

    help: str
    """Its meaning."""
    metavar: str
    """Its name in the usage line."""
    autocompletion: Suggest | None = None
    """Words that the shell offers."""


class Option:
    """An option, known by its name.

    Args:
        names: its names; none: `--` and the name of the parameter.
        help: its meaning.
        metavar: name of its value in the help.
        min: smallest value of a number.
        max: largest value of a number.
        autocompletion: words that the shell offers for its value.
    """

    def __init__(
        self,
        *names: str,
        help: str,
        metavar: str | None = None,
        min: float | None = None,
        max: float | None = None,
        autocompletion: Suggest | None = None,
    ) -> None:
        self.names, self.help, self.metavar = names, help, metavar
        self.min, self.max, self.autocompletion = min, max, autocompletion


class CommandBehindDashes:
    """The words of another command, behind `--`: a parameter that is None without them."""


class Exit(Exception):
    """Ends the program with an exit code."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code
