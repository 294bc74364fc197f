"""`giblet why`: what is wrong with a run, or with a log of the lab's older trainings, in the order of likelihood."""

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
        metavar="RUN|LOG", help="A run's id or its beginning, @last, a run directory or a log here.",
        autocompletion=run_ids,
    ),
]  # fmt: skip
Plan = Annotated[
    str | None,
    typer.Option("--config", help="The configuration that a log's run had.", autocompletion=config_names),
]


@command(app, "why", "giblet why @last", "giblet why logs/training_production.log --config production_500epoch")
def why(subject: Subject, config: Plan = None, json: Json = False) -> None:
    """Say why a run does badly: causes with their evidence and what to do, the most likely first.

    Of a log it also says what the file cannot show, of a run which of its files could not be read. Exit code 0 when
    nothing is wrong, 1 when something is, 2 when run.json or config.yaml could not be read and nothing else is wrong.
    """
    from giblet_train.schema.errors import ConfigError, RunFailed
    from giblet_tui.reporting import why as diagnosed

    blind = False
    if diagnosed.is_path(subject):
        finding = diagnosed.of_path(Path(subject).expanduser(), config)
    elif config is not None:
        raise ConfigError(f"--config goes with a log, and there is no file {subject}.", "Name the log by its path.")
    else:
        if "/" in subject or subject.endswith((".log", ".txt")):
            raise ConfigError(f"There is no file {subject}.", "Name a log or a run directory that lies here, or a run.")
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
