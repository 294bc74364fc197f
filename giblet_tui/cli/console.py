"""Output to the terminal: data on stdout, status and errors on stderr; sanitised, coloured only on a terminal."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.connection.sanitize import sanitize

if TYPE_CHECKING:
    from typer import TyperException

STATE_COLOURS = {
    "running": "green",
    "waiting": "blue",
    "starting": "blue",
    "finished": "green",
    "stalled": "yellow",
    "unknown": "yellow",
    "stopped": "dim",
    "ended": "dim",
    "failed": "red",
    "died": "red",
}
"""Colour of a run's state."""
_prints_status = True
_printed_json = False
_COLOURS = {"green": 32, "yellow": 33, "red": 31, "blue": 36, "dim": 2, "bold": 1}


def print_data(text: str) -> None:
    """Print data on stdout."""
    print(text, flush=True)


def show_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout; NaN and infinity become null."""
    import json

    from giblet_tui.reporting.json_output import nan_to_null  # imports the schema, which `giblet --help` does not need

    global _printed_json
    print(json.dumps(nan_to_null(dict(value)), ensure_ascii=True, allow_nan=False), flush=True)
    _printed_json = True


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Choose what appears on stderr besides errors: nothing (quiet), or also each operation on a node (verbose)."""
    global _prints_status
    _prints_status = not quiet
    if verbose:
        import logging  # costs a tenth of `giblet --help`, which does not need it

        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger = logging.getLogger("giblet_tui")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def print_status(sentence: str) -> None:
    """Print a status message on stderr, unless the user wants only results and errors."""
    if _prints_status:
        _print_on_stderr(sentence)


def _print_on_stderr(sentence: str) -> None:
    for line in sentence.split("\n"):
        print(sanitize(line), file=sys.stderr, flush=True)


USAGE_WORDS = (
    (r"Got unexpected extra arguments? ?\((=.*)\)", 'There are blanks around "=". Write key=value as one word'),
    (r"Got unexpected extra arguments?\(s\) \((=.*)\)", 'There are blanks around "=". Write key=value as one word'),
    (r"Got unexpected extra argument\(s\) \((.*)\)", r"Too many words: \1"),
    (r"No such command '(.*)'\.", r'There is no command "\1".'),
    (r"is not a valid int(eger)?( range)?\b", "is not a whole number"),
    (r"is not a valid float( range)?\b", "is not a number"),
    (r"is not in the range ([\d.]+)<=x<=([\d.]+)", r"must be from \1 to \2"),
    (r"is not in the range x>=([\d.]+)", r"must be at least \1"),
    (r"(-?\d+)\.0 must be", r"\1 must be"),
    (r"must be (at least|from) (\d+)\.0\b", r"must be \1 \2"),
    (r"(must be from \d+) to (\d+)\.0\b", r"\1 to \2"),
)
"""Patterns in usage errors of the command-line library, and what is printed instead."""
USAGE_REMEDIES = (
    (r"No such option: (-q|-v|--quiet|--verbose)\b", "It comes before the command: giblet -q ps"),
    (r"requires an argument", "Write its value behind it; --help of the command has examples."),
)
"""Patterns in usage errors, and what helps."""
LONGEST_WORD = 400
DASHES, OPENING, CLOSING = "‐‑‒–—―−", "“„‘‚", "”’"
"""Typographic characters that are typed in a shell as - and as quotation marks."""


def typographic_error(words: Sequence[str]) -> ConfigError | None:
    """Return an error if a word has dashes or quotation marks that only look like those of a shell; else None.

    Text that is copied from a PDF or a chat has them. Words behind `--` are a command of the user's and are not judged.
    """
    own = words[: words.index("--")] if "--" in words else words
    for word in own:
        if match := re.match(rf"^-?[{DASHES}]+-?(\w[\w-]*)", word):
            option = f"-{match[1]}" if len(match[1]) == 1 else f"--{match[1]}"
            return ConfigError(f"{word} begins with a typographic dash.", f"Type {option} with hyphens.")
        value = word.partition("=")[2] or word
        if value[:1] in OPENING and value[:1] and value[-1] not in CLOSING + "“":
            return ConfigError(f"{word} begins with a typographic quotation mark.", "Type ' or \" around the text.")
    return None


def print_error(error: GibletError) -> None:
    """Print an error and its remedy on stderr; of a word as long as a file, only the beginning."""
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:100]}… ({len(word[0])} characters)", str(error))
    _print_on_stderr(f"giblet: {text}")


def report_failure(error: GibletError) -> int:
    """Print why a command failed and return its exit code; with --json also as an object, if none was printed."""
    print_error(error)
    words = sys.argv[1:]
    own = words[: words.index("--")] if "--" in words else words
    if "--json" in own and not _printed_json:
        facts = {"message": error.message, "remedy": error.remedy, "exit_code": error.exit_code}
        with contextlib.suppress(OSError, ValueError):  # stdout may be what failed
            show_json({"schema": 1, "error": facts})
    return error.exit_code


def report_usage_error(error: TyperException) -> int:
    """Print a usage error in the style of all other errors, or the help if only that is missing; return its code."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    for pattern, words in USAGE_WORDS:
        message = re.sub(pattern, words, message)
    remedies = [words for pattern, words in USAGE_REMEDIES if re.search(pattern, message)]
    if context is None:
        return report_failure(ConfigError(message, "\n  ".join(remedies)))
    if message == context.get_help():
        _print_on_stderr(message)
        return error.exit_code
    if context.command_path == "giblet launch" and message.startswith("Too many words"):
        remedies.append("A command of your own follows --: giblet launch NODE -- python train.py")
    remedies += [context.get_usage(), f"Help: {context.command_path} --help"]
    return report_failure(ConfigError(message, "\n  ".join(remedies)))


def style(text: str, colour: str) -> str:
    """Return the text with colour codes; unchanged off a terminal, with NO_COLOR or on a dumb terminal."""
    if not colour or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def columns() -> int | None:
    """Return the width of the terminal behind stdout; None off a terminal, where nothing is truncated."""
    if not sys.stdout.isatty():
        return None
    import shutil  # imports every kind of archive

    return shutil.get_terminal_size().columns


def confirm(question: str) -> bool:
    """Ask a yes/no question at the terminal; only `y` or `yes` is True, and False off a terminal."""
    return prompt_line(f"{question} [y/N]").lower() in ("y", "yes")


def prompt_line(question: str) -> str:
    """Read one line from the terminal; return "" off a terminal."""
    if not sys.stdin.isatty():
        return ""
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    text = ""
    try:
        text = sys.stdin.readline()
    finally:
        if not text.endswith("\n"):  # after Ctrl-C or Ctrl-D the next output starts on a new line
            print(file=sys.stderr, flush=True)
    return text.strip()


def answer_login_prompt(heading: str, prompts: Sequence[tuple[str, bool]]) -> list[str]:
    """Answer a server's login prompts at this terminal; typed text is hidden unless the server allows echo."""
    import getpass

    _print_on_stderr(heading)
    answers = []
    for prompt, echo in prompts:
        try:
            answers.append(prompt_line(prompt) if echo else getpass.getpass(f"{prompt.rstrip()} ", stream=sys.stderr))
        except EOFError:
            answers.append("")
    return answers


def next_commands(run_id: str, *, live: bool) -> str:
    """Return the commands that a user needs next for this run."""
    if live:
        commands = ["giblet", f"giblet logs {run_id} -f", f"giblet stop {run_id}"]
    else:
        commands = [f"giblet {verb} {run_id}" for verb in ("why", "evaluate", "pull")]
    return "\n  ".join(["next:", *commands])


def check_parent(path: Path) -> None:
    """Raise ConfigError if the folder that is to contain `path` does not exist, so that no typo creates folders."""
    parent = path.expanduser().absolute().parent
    if not parent.is_dir():
        raise ConfigError(
            f"There is no folder {parent}.", f"Create it (mkdir -p {shlex.quote(str(parent))}), or change the path."
        )


def path_argument(path: Path) -> str:
    """Return a path as a word of a shell that giblet takes for a path, not for the name of a configuration."""
    text = str(path)
    return shlex.quote(text if "/" in text else f"./{text}")


def on_terminal() -> bool:
    """Return True if stdin, stdout and stderr are all terminals."""
    return not redirected_stream()


def redirected_stream() -> str:
    """Return the name of the first standard stream that is not a terminal; "" if all are."""
    streams = {"standard input": sys.stdin, "standard output": sys.stdout, "standard error": sys.stderr}
    return next((name for name, stream in streams.items() if not stream.isatty()), "")
