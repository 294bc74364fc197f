"""The commands of giblet for the command-line library: it parses what is not plain, and writes help and completions.

Its import takes five times the CPU of starting Python, so `run` first tries `plain_words`.
"""

from __future__ import annotations

import inspect
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group
from typer.models import CommandInfo

from giblet_train import __version__
from giblet_train.schema.errors import FAILED, OK, ConfigError
from giblet_tui.cli.app import Verb, VerbGroup, load
from giblet_tui.cli.closed_pipe import closed_pipes_as_exception
from giblet_tui.cli.commands import COMMANDS, SYNONYMS
from giblet_tui.cli.console import (
    print_data,
    redirected_stream,
    report_failure,
    report_usage_error,
    set_verbosity,
    typographic_error,
)
from giblet_tui.cli.parameters import Argument, CommandBehindDashes, Exit, Option
from giblet_tui.cli.plain_words import declarations

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
WORDS = "giblet.words"
"""Key in a context's `meta` of the words behind `--`."""

PROGRAMS = ("python", "torchrun", "accelerate", "deepspeed", "bash", "sh", "Rscript", "julia", "conda", "uv", "srun")
"""Programs with which people start trainings: here they belong behind `giblet launch NODE --`."""


def parse_and_run(words: Sequence[str]) -> int:
    """Parse a command line, carry it out, and return its exit code; usage errors are printed."""
    try:
        code = typer.main.get_command(program).main(args=list(words), prog_name="giblet", standalone_mode=False)
    except typer.TyperException as error:
        typo = typographic_error(words)
        return report_failure(typo) if typo else report_usage_error(error)
    except typer.Abort:
        return FAILED
    return code if isinstance(code, int) else OK


class Completion(NamedTuple):
    """Name and help of a command in the shell; the attributes are those that Typer's completion reads."""

    value: str
    help: str
    type: str = "plain"


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is run (click's recipe)."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in COMMANDS:
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
            small = word.lower()
            similar = [SYNONYMS[small]] if small in SYNONYMS else get_close_matches(small, COMMANDS, n=1, cutoff=0.7)
            suggestion = f' Did you mean "giblet {similar[0]}"?' if similar else ""
            if not similar and _is_program(word):
                suggestion = f" To run a program: giblet launch NODE -- {shlex.join(args)}"
            ctx.fail(f'There is no command "{word}".{suggestion}')
        return super().resolve_command(ctx, args)

    def make_context(self, *words: Any, **options: Any) -> Any:
        with closed_pipes_as_exception():
            return super().make_context(*words, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            with closed_pipes_as_exception():
                return super().invoke(ctx)
        except Exit as end:
            raise typer.Exit(end.code) from None


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


def _build(name: str) -> Any:
    """Return the click command of a verb or group."""
    entry = load(name)
    if isinstance(entry, VerbGroup):
        group = typer.Typer(
            help=entry.about, no_args_is_help=True, add_completion=False, rich_markup_mode=None, context_settings=_HELP
        )
        group.registered_commands = [_command_info(name, verb, "") for name, verb in entry.verbs.items()]
        return get_group(group)
    info = _command_info(name, entry, COMMANDS[name].about)
    return get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)


_HELP = {"help_option_names": ["-h", "--help"]}


def _command_info(name: str, verb: Verb, about: str) -> CommandInfo:
    """Return a verb as the library's description of a command.

    Args:
        name: name of the verb.
        verb: the verb.
        about: its line in the list of commands; "": the first sentence of its docstring.
    """
    text = inspect.cleandoc(verb.function.__doc__ or "")
    lines = "\n".join(f"  {example}" for example in verb.examples)
    function, takes_command = _for_library(verb.function)
    return CommandInfo(
        name,
        cls=WithCommand if takes_command else PlainUsage,
        callback=function,
        context_settings=_HELP,
        help=f"\b\nExamples:\n{lines}\n\n{text}",
        short_help=about or re.split(r"[:;.](?:\s|$)", text)[0],
        epilog=EXIT_CODES,
    )


def carry_out(function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Call the function of a command with the values that were parsed.

    Raises ConfigError for `nan`, which the limits of an option let pass.
    """
    for name, value in values.items():
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"--{name.replace('_', '-')} nan is not a number.", "Give a number, such as 30.")
    return function(**values)


def _for_library(function: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """Return a function with parameters as the library declares them, and whether it takes words behind --."""
    annotated_type: Any = Annotated
    parameters, words_name = [inspect.Parameter("context", _KEYWORD, annotation=typer.Context)], ""
    for declaration in declarations(function):
        if isinstance(declaration.marker, CommandBehindDashes):
            words_name = declaration.name
            continue
        annotation = annotated_type[declaration.type, _library_marker(declaration.marker)]
        default = declaration.default if declaration.has_default else inspect.Parameter.empty
        parameters.append(inspect.Parameter(declaration.name, _KEYWORD, annotation=annotation, default=default))

    def call(context: typer.Context, **values: Any) -> Any:
        words = {words_name: context.meta.get(WORDS)} if words_name else {}
        return carry_out(function, values | words)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__name__ = function.__name__
    return call, bool(words_name)


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _library_marker(marker: Argument | Option) -> Any:
    if isinstance(marker, Argument):
        return typer.Argument(metavar=marker.metavar, help=marker.help, autocompletion=marker.autocompletion)
    return typer.Option(
        *marker.names,
        metavar=marker.metavar,
        help=marker.help,
        min=marker.min,
        max=marker.max,
        autocompletion=marker.autocompletion,
    )


program = typer.Typer(
    name="giblet",
    cls=LazyGroup,
    epilog=EXIT_CODES,
    help=ABOUT,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)


@program.callback(invoke_without_command=True)
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
        return
    from giblet_tui.cli.dashboard import dashboard  # imports Textual

    dashboard()


def _is_program(word: str) -> bool:
    """Return True if a word is a file, a script, or a program that people start trainings with."""
    is_script = word.endswith((".py", ".sh", ".R", ".jl")) or Path(word).is_file()
    return is_script or word.rpartition("/")[2].rstrip("0123456789.") in PROGRAMS
