"""The command line's frame: the application, and how a verb joins it with its examples first."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import typer

Verb = TypeVar("Verb", bound=Callable[..., Any])

EXIT_CODES = (
    "\b\nExit codes: 0 ok · 1 run or verdict failed · 2 usage or configuration · 3 node unreachable\n"
    "4 target state not reached, something survives · 5 refused before the start · 124 timed out · 130 interrupted"
)


def group(**options: Any) -> typer.Typer:
    """A Typer application in giblet's manner: plain help, no pretty tracebacks, -h."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


app = group(name="giblet", epilog=EXIT_CODES, invoke_without_command=True)
node_app = group(help="The machines giblet works on.", no_args_is_help=True, add_completion=False)
config_app = group(help="Configurations: what there is, what they resolve to.", no_args_is_help=True)


def verb(parent: typer.Typer, name: str, *examples: str) -> Callable[[Verb], Verb]:
    """Register a function as the verb `name` of `parent`; its help shows `examples`, then its docstring."""

    def register(function: Verb) -> Verb:
        text = inspect.cleandoc(function.__doc__ or "")
        shown = "\n".join(f"  {example}" for example in examples)
        parent.command(
            name, help=f"\b\nExamples:\n{shown}\n\n{text}", short_help=text.split("\n")[0], epilog=EXIT_CODES
        )(function)
        return function

    return register
