"""Run the command line: parse it, carry it out, and turn every error into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

import typer
from typer.main import get_command

from giblet_train.schema.errors import FAILED, OK, ConfigError, GibletError
from giblet_tui.cli.app import ClosedPipe, app, closed_pipes
from giblet_tui.cli.console import answer_login_prompt, print_error, print_status, print_usage_error, typographic_error
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
            code = get_command(app).main(prog_name="giblet", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else OK)
    except typer.TyperException as error:
        mistyped = typographic_error(sys.argv[1:])
        print_error(mistyped) if mistyped else print_usage_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(FAILED)
    except GibletError as error:
        mistyped = typographic_error(sys.argv[1:]) if isinstance(error, ConfigError) else None
        print_error(mistyped or error)
        sys.exit(error.exit_code)
    except ClosedPipe:
        for stream in closed_pipes():
            _discard(stream)
        sys.exit(SIGPIPE_EXIT)
    except OSError as error:
        _discard(1)  # the interpreter flushes it at its end, and would fail again
        place = error.filename if error.filename is not None else "Standard output"
        print_error(GibletError(f"{place}: {error.strerror or error}.", "Make it writable, or name another place."))
        sys.exit(FAILED)


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
        print_error(GibletError("Standard output is closed.", "Leave out >&-, or use > /dev/null."))
        sys.exit(FAILED)


def _discard(stream: int) -> None:
    """Connect a stream to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != stream:
        os.dup2(null, stream)
        os.close(null)
