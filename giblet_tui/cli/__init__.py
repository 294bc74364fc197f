"""The command line: one file per verb family, each verb parse → call → print. `main` is the console script `giblet`."""

from __future__ import annotations

import os
import sys

from giblet_train.schema.errors import GibletError
from giblet_tui.cli import (
    adopt,
    alerts,
    attach,
    cleanup,
    compare,
    configs,
    dashboard,
    data,
    demo,
    evaluation,
    export,
    launch,
    logs,
    nodes,
    report,
    runs,
    stages,
    stop,
    why,
)
from giblet_tui.cli.app import ClosedPipe, app, config_app, data_app, node_app, reader_gone
from giblet_tui.cli.console import answer_login_prompt, print_error
from giblet_tui.connection.connect import shared
from giblet_tui.connection.login_prompts import set_prompt_handler

__all__ = ["app", "main"]

VERBS = (
    demo,
    launch,
    runs,
    logs,
    dashboard,
    why,
    alerts,
    report,
    compare,
    stages,
    stop,
    adopt,
    cleanup,
    evaluation,
    attach,
    export,
    nodes,
    data,
    configs,
)
"""The modules whose verbs join `app` when they are imported."""

app.add_typer(node_app, name="node")
app.add_typer(data_app, name="data")
app.add_typer(config_app, name="config")


SIGPIPE_EXIT = 141
"""What a shell shows of a program that SIGPIPE ended: as `yes | head -1` does."""


def main() -> None:
    """Run the command line; the process ends with the exit code that `giblet --help` documents."""
    if sys.stdin.isatty() and sys.stderr.isatty():
        set_prompt_handler(answer_login_prompt)
    try:
        with shared():
            app(prog_name="giblet")
    except GibletError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except ClosedPipe:
        for stream in reader_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.exit(SIGPIPE_EXIT)
