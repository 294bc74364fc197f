"""The command line: one module per family of commands. `main` is the console script `giblet`."""

from __future__ import annotations

import os
import sys

import typer
from typer.main import get_command

from giblet_train.schema.errors import FAILED, OK, GibletError
from giblet_tui.cli.app import ClosedPipe, app, closed_pipes
from giblet_tui.cli.console import answer_login_prompt, print_error, print_status, print_usage_error
from giblet_tui.connection.connect import shared
from giblet_tui.connection.login_prompts import set_prompt_handler
from giblet_tui.connection.notices import set_notice_handler

__all__ = ["app", "main"]

SIGPIPE_EXIT = 141
"""Exit code that a shell shows for a program ended by SIGPIPE, such as `yes | head -1`."""


def main() -> None:
    """Run the command line; the process ends with the exit code that `giblet --help` documents."""
    set_notice_handler(print_status)
    if sys.stdin.isatty() and sys.stderr.isatty():
        set_prompt_handler(answer_login_prompt)
    try:
        with shared():
            code = get_command(app).main(prog_name="giblet", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else OK)
    except typer.TyperException as error:
        print_usage_error(error)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(FAILED)
    except GibletError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except ClosedPipe:
        for stream in closed_pipes():
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.exit(SIGPIPE_EXIT)
