"""The command line's frame: the lazy group of commands, and how a command registers itself."""

from __future__ import annotations

import inspect
import re
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group

from giblet_train import __version__
from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.commands import COMMANDS, SYNONYMS
from giblet_tui.cli.console import print_data, redirected_stream, set_verbosity

Verb = TypeVar("Verb", bound=Callable[..., Any])

EXIT_CODES = (
    "\b\nExit codes: 0 ok · 1 run or verdict failed · 2 usage or configuration · 3 node unreachable\n"
    "4 target state not reached, something survives · 5 refused before the start · 124 timed out · 130 interrupted\n"
    "141 the reader closed the pipe"
)

ABOUT = """\b
Examples:
  giblet demo                       make a study, train and judge, on this machine
  giblet setup tensor01             install giblet on a host of ~/.ssh/config
  giblet launch tensor01 demo       start a run there
  giblet                            watch all runs live

Train multimodal brain models on shared GPU servers, watch them live, and know early why a run will fail.
"""


def group(**options: Any) -> typer.Typer:
    """Return a Typer application with plain help, plain tracebacks and -h."""
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **options,
    )


class ClosedPipe(Exception):
    """The reader of stdout or stderr has closed the pipe, as in `giblet ps | head -1`."""


@contextmanager
def _closed_pipes_as_exception() -> Iterator[None]:
    """Turn a BrokenPipeError on our stdout or stderr into ClosedPipe; Typer would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        if not closed_pipes():
            raise
        raise ClosedPipe from None


def closed_pipes() -> list[int]:
    """Return which of stdout (1) and stderr (2) are pipes that nobody reads."""
    poll = select.poll()
    for stream in (1, 2):
        poll.register(stream, 0)
    return [stream for stream, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]


class Completion(NamedTuple):
    """What the shell shows for one command; the attributes are those that Typer's completion reads."""

    value: str
    help: str
    type: str = "plain"


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is run (click's recipe)."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            import_module(f"giblet_tui.cli.{COMMANDS[cmd_name].module}")
            self.add_command(_build(cmd_name), cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.about) for name, row in COMMANDS.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        names = [Completion(name, row.about) for name, row in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *super(TyperGroup, self).shell_complete(ctx, incomplete)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named first; suggest one if there is none of that name."""
        word = args[0]
        if word not in COMMANDS and not word.startswith("-"):
            similar = [SYNONYMS[word]] if word in SYNONYMS else get_close_matches(word, COMMANDS, n=1, cutoff=0.7)
            suggestion = f' Did you mean "giblet {similar[0]}"?' if similar else ""
            ctx.fail(f'There is no command "{word}".{suggestion}')
        return super().resolve_command(ctx, args)

    def make_context(self, *words: Any, **options: Any) -> Any:
        with _closed_pipes_as_exception():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:
        with _closed_pipes_as_exception():
            return super().invoke(ctx)


app = group(name="giblet", cls=LazyGroup, epilog=EXIT_CODES, help=ABOUT, invoke_without_command=True)
node_app = group(help="Manage the machines that giblet works on.", no_args_is_help=True, add_completion=False)
data_app = group(help="Check a study before training on it.", no_args_is_help=True, add_completion=False)
config_app = group(help="List, show, compare, check and convert configurations.", no_args_is_help=True)
_GROUPS = {"node": node_app, "data": data_app, "config": config_app}


def _build(name: str) -> Any:
    """Return the click command of a verb whose module has been imported."""
    if name in _GROUPS:
        return get_group(_GROUPS[name])
    verb = next(verb for verb in app.registered_commands if verb.name == name)
    return get_command_from_info(verb, pretty_exceptions_short=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def bare(
    context: typer.Context,
    version: Annotated[bool, typer.Option("-V", "--version", help="Print the version of giblet and exit.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only results and errors.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Also print each operation on a node.")] = False,
) -> None:
    """Open the dashboard if no command is given; print the help if no person is in front of the terminal."""
    if version:
        print_data(f"giblet {__version__}")
        raise typer.Exit()
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other.", "Use one of them.")
    set_verbosity(quiet=quiet, verbose=verbose)
    if context.invoked_subcommand is not None:
        return
    if redirected_stream():
        print_data(context.get_help())
    else:
        context.invoke(context.command.get_command(context, "dashboard").callback)  # type: ignore[attr-defined]


class PlainUsage(TyperCommand):
    """A command whose usage line shows a required argument as NODE. Typer writes {NODE}, which reads as a choice."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [re.sub(r"^\{([\w.]+)\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


class WithCommand(PlainUsage):
    """A command after which, behind `--`, the words of another command follow; they are not parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        if "--" in args:
            at = args.index("--")
            ctx.meta[WORDS], args = tuple(args[at + 1 :]), args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


WORDS = "giblet.words"
"""Key in a context's `meta` of the words behind `--`."""


def command(
    parent: typer.Typer, name: str, *examples: str, kind: type[TyperCommand] = PlainUsage
) -> Callable[[Verb], Verb]:
    """Register a function as the command `name` of `parent`; its help shows `examples`, then its docstring."""

    def register(function: Verb) -> Verb:
        text = inspect.cleandoc(function.__doc__ or "")
        lines = "\n".join(f"  {example}" for example in examples)
        parent.command(
            name,
            cls=kind,
            help=f"\b\nExamples:\n{lines}\n\n{text}",
            short_help=COMMANDS[name].about if parent is app else re.split(r"[:;.](?:\s|$)", text)[0],
            epilog=EXIT_CODES,
        )(function)
        return function

    return register
