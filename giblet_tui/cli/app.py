"""The command line's frame: the application, and how a verb joins it with its examples first."""

from __future__ import annotations

import inspect
import re
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

Verb = TypeVar("Verb", bound=Callable[..., Any])

EXIT_CODES = (
    "\b\nExit codes: 0 ok · 1 run or verdict failed · 2 usage or configuration · 3 node unreachable\n"
    "4 target state not reached, something survives · 5 refused before the start · 124 timed out · 130 interrupted\n"
    "141 nobody reads the output any more"
)

ABOUT = """\b
Examples:
  giblet demo                       the whole job on this machine
  giblet setup tensor01             put giblet on a host of ~/.ssh/config
  giblet launch tensor01 demo       start a run there
  giblet                            watch all runs live

Train multimodal brain models on shared GPU servers, watch them live, and know early why a run will fail.
"""


def group(**options: Any) -> typer.Typer:
    """A Typer application in giblet's manner: plain help, no pretty tracebacks, -h."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


_ORDER = (
    *(
        "demo",
        "launch",
        "ps",
        "status",
        "logs",
        "dashboard",
        "verdict",
        "why",
        "alerts",
        "report",
        "compare",
        "promote",
        "ladder",
        "stop",
        "adopt",
        "rm",
        "prune",
    ),
    *("evaluate", "lesion", "rebuild", "ensemble"),
    *("attach", "pull", "export", "setup", "doctor", "data", "node", "config"),
)


class ClosedPipe(Exception):
    """What we print to is closed, as by `giblet ps | head -1`."""


@contextmanager
def _telling_closed_pipes() -> Iterator[None]:
    """Typer ends a verb with exit code 1 at any closed pipe; one of ours it is to let through, by another name."""
    try:
        yield
    except BrokenPipeError:
        if not reader_gone():
            raise
        raise ClosedPipe from None


def reader_gone() -> list[int]:
    """Which of stdout (1) and stderr (2) are pipes that nobody reads any more."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return [stream for stream, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]


class _CommandGroup(TyperGroup):
    """Verbs in the order of a day's work, not in that of imports."""

    def list_commands(self, ctx: object) -> list[str]:
        return sorted(self.commands, key=_ORDER.index)

    def make_context(self, *words: Any, **options: Any) -> Any:
        with _telling_closed_pipes():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:
        with _telling_closed_pipes():
            return super().invoke(ctx)


app = group(name="giblet", cls=_CommandGroup, epilog=EXIT_CODES, help=ABOUT, invoke_without_command=True)
node_app = group(help="The machines giblet works on.", no_args_is_help=True, add_completion=False)
data_app = group(help="Look at a study before training on it.", no_args_is_help=True, add_completion=False)
config_app = group(help="Configurations: what there is, what they resolve to.", no_args_is_help=True)


def command(parent: typer.Typer, name: str, *examples: str) -> Callable[[Verb], Verb]:
    """Register a function as the verb `name` of `parent`; its help shows `examples`, then its docstring."""

    def register(function: Verb) -> Verb:
        text = inspect.cleandoc(function.__doc__ or "")
        shown = "\n".join(f"  {example}" for example in examples)
        parent.command(
            name,
            help=f"\b\nExamples:\n{shown}\n\n{text}",
            short_help=re.split(r"[:;.](?:\s|$)", text)[0],
            epilog=EXIT_CODES,
        )(function)
        return function

    return register
