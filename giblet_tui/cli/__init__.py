"""The command line: one file per verb family, each verb parse → call → print. `main` is the console script `giblet`."""

from __future__ import annotations

import os
import sys

from giblet_train.contract.errors import GibletError
from giblet_tui.cli import (
    adopt,
    alerts,
    clear,
    compare,
    configs,
    data,
    demo,
    export,
    inspections,
    ladder,
    launch,
    logs,
    monitor,
    nodes,
    reach,
    report,
    runs,
    stop,
    why,
)
from giblet_tui.cli.app import ReaderGone, app, config_app, data_app, node_app, reader_gone
from giblet_tui.cli.speech import complain, respond
from giblet_tui.remote.connecting import shared
from giblet_tui.remote.questions import answer_by

__all__ = ["app", "main"]

VERBS = (
    demo,
    launch,
    runs,
    logs,
    monitor,
    why,
    alerts,
    report,
    compare,
    ladder,
    stop,
    adopt,
    clear,
    inspections,
    reach,
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
        answer_by(respond)
    try:
        with shared():
            app(prog_name="giblet")
    except GibletError as error:
        complain(error)
        sys.exit(error.exit_code)
    except ReaderGone:
        for stream in reader_gone():
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        sys.exit(SIGPIPE_EXIT)
