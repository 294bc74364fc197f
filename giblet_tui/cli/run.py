"""Run the command line: parse it, carry it out, and turn every error into a sentence and an exit code."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from giblet_train.schema.errors import OK, ConfigError, GibletError
from giblet_tui.cli.closed_pipe import ClosedPipe, closed_pipes, closed_pipes_as_exception
from giblet_tui.cli.console import answer_login_prompt, print_status, report_failure, typographic_error
from giblet_tui.cli.parameters import Exit
from giblet_tui.cli.plain_words import plain_call
from giblet_tui.connection.connect import shared
from giblet_tui.connection.login_prompts import set_prompt_handler
from giblet_tui.connection.notices import set_notice_handler

SIGPIPE_EXIT = 141
"""Exit code that a shell shows for a program ended by SIGPIPE, such as `yes | head -1`."""


def run() -> None:
    """Run the command line; the process ends with the exit code that `giblet --help` documents."""
    _prepare_streams()
    set_notice_handler(print_status)
    if sys.stdin.isatty() and sys.stderr.isatty():
        set_prompt_handler(answer_login_prompt)
    try:
        with shared():
            sys.exit(_carry_out(sys.argv[1:]))
    except GibletError as error:
        typo = typographic_error(sys.argv[1:]) if isinstance(error, ConfigError) else None
        sys.exit(report_failure(typo or error))
    except ClosedPipe:
        for stream in closed_pipes():
            _discard(stream)
        sys.exit(SIGPIPE_EXIT)
    except OSError as error:
        _discard(1)  # the interpreter flushes it at its end, and would fail again
        if not _has_current_folder():
            sys.exit(report_failure(ConfigError("The current folder was removed.", "cd to another folder.")))
        place = error.filename if error.filename is not None else "Standard output"
        remedy = "Make it writable, or name another place."
        sys.exit(report_failure(GibletError(f"{place}: {error.strerror or error}.", remedy)))
    except RuntimeError as error:  # of Path.expanduser
        if "home directory" not in str(error):
            raise
        sys.exit(report_failure(_unknown_home()))


def _carry_out(words: Sequence[str]) -> int:
    """Carry out a command line and return its exit code.

    What is imported stays until the end of the process. Searching it for garbage, during the imports and at the end,
    took a fifth of the CPU of `giblet ps --cached`.
    """
    gc.disable()
    try:
        call = plain_call(words)
        gc.freeze()
        gc.enable()
        return _exit_code(call, words)
    finally:
        gc.freeze()


def _exit_code(call: Callable[[], Any] | None, words: Sequence[str]) -> int:
    """Make a call, or parse the words if there is none; return the exit code."""
    if call is None:
        from giblet_tui.cli.parser import parse_and_run  # expensive, and most command lines are plain

        return parse_and_run(words)
    try:
        with closed_pipes_as_exception():
            call()
    except Exit as end:
        return end.code
    return OK


def _has_current_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _unknown_home() -> ConfigError:
    """Return the error for a path that begins with the home folder of nobody, with where it may come from."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(("GIBLET_", "XDG_"))}
    paths = [f"{name}={value}" for name, value in variables.items() if value.startswith("~")]
    paths += [word for word in sys.argv[1:] if word.startswith("~")]
    return ConfigError(
        f"This machine has no such home folder: {', '.join(paths) or '~'}", "Write the whole path, or set HOME."
    )


def _prepare_streams() -> None:
    """Open closed streams, and let no character fail that the terminal's encoding lacks.

    Ends the process if standard output is closed, because results would be lost without a word.
    """
    is_closed = sys.stdout is None
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            _discard(number)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if is_closed:
        sys.exit(report_failure(GibletError("Standard output is closed.", "Leave out >&-, or use > /dev/null.")))


def _discard(stream: int) -> None:
    """Connect a stream to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != stream:
        os.dup2(null, stream)
        os.close(null)
