"""`giblet why`: likely causes of a problem with a run or with the log of a training, most likely first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import config_names, run_ids
from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.cli.runs import find, unreadable_of

Subject = Annotated[
    str,
    typer.Argument(
        metavar="RUN|LOG", help="A run, a local run directory, or a local log file.",
        autocompletion=run_ids,
    ),
]  # fmt: skip
Plan = Annotated[
    str | None,
    typer.Option("--config", help="Configuration of the training that wrote the log.", autocompletion=config_names),
]


@command(app, "why", "giblet why @last", "giblet why logs/training_production.log --config production_500epoch")
def why(subject: Subject, config: Plan = None, json: Json = False) -> None:
    """List likely causes of a problem with evidence and remedy, most likely first.

    For a log, also list what the file cannot show; for a run, which of its files could not be read. Exit code 0 if
    nothing is wrong, 1 if something is, 2 if run.json or config.yaml could not be read and nothing else is wrong.
    """
    from giblet_train.schema.errors import ConfigError, RunFailed
    from giblet_tui.reporting import why as diagnosed

    blind = False
    if diagnosed.is_path(subject):
        finding = diagnosed.of_path(Path(subject).expanduser(), config)
    elif config is not None:
        raise ConfigError(f"--config is for a log, and there is no file {subject}.", "Name the log by its path.")
    else:
        if "/" in subject or subject.endswith((".log", ".txt")):
            raise ConfigError(f"There is no file {subject}.", "Name a local log or run directory, or a run.")
        run = find(subject)
        errors, notes = unreadable_of(run)
        finding, blind = diagnosed.of_run(run, [*map(str, errors), *notes]), bool(errors)
    for note in finding.notes:
        print_status(note)
    if json:
        show_json(diagnosed.why_json(finding))
    else:
        print_data("\n".join(diagnosed.why_lines(finding.diagnosis, blind, finding.begun)))
    if not finding.diagnosis.healthy:
        raise typer.Exit(RunFailed.exit_code)
    if blind:
        raise typer.Exit(ConfigError.exit_code)
