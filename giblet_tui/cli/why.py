"""`giblet why`: explain what is wrong with a run, or with the log of any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.schema.errors import ConfigError, GibletError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import config_names, run_ids
from giblet_tui.cli.console import print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.cli.runs import find, unreadable_of
from giblet_tui.inventory import nodes
from giblet_tui.monitor.logs import fetch_log_end
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import why as explanation

Subject = Annotated[
    str,
    Argument(
        metavar="RUN|LOG", help="Id of a run or its beginning, @last, or the path of a run directory or log.",
        autocompletion=run_ids,
    ),
]  # fmt: skip
Plan = Annotated[
    str | None,
    Option("--config", help="Configuration of the training that wrote the log.", autocompletion=config_names),
]


@command(app, "why", "giblet why @last", "giblet why logs/training_production.log --config production_500epoch")
def why(subject: Subject, config: Plan = None, json: Json = False) -> None:
    """Explain what is wrong with a run or a log: likely causes with evidence and remedy, the most likely first.

    LOG is a file or a folder of any training: text, CSV, JSON or TensorBoard events, also compressed. Exit code 0 if
    nothing is wrong, 1 if something is, 2 if nothing can be concluded because too little could be read.
    """
    has_unread_files = False
    if explanation.is_path(subject):
        answer = explanation.of_path(Path(subject).expanduser(), config)
    elif config is not None:
        raise ConfigError(f"--config is for a log, and there is no file {subject}.", "Name the log by its path.")
    else:
        if "/" in subject or subject.endswith((".log", ".txt", ".csv", ".json", ".jsonl", ".gz")):
            raise ConfigError(f"There is no file {subject}.", "Name a run, or the path of a log or run directory.")
        run = find(subject)
        errors, notes = unreadable_of(run)
        log, log_notes = _log_end(run)
        answer = explanation.of_run(run, [*map(str, errors), *notes, *log_notes], log)
        has_unread_files = bool(errors)
    for note in answer.notes:
        print_status(note)
    if json:
        show_json(explanation.why_json(answer))
    else:
        print_data("\n".join(explanation.why_lines(answer, has_unread_files)))
    if answer.diagnosis.causes:
        raise Exit(RunFailed.exit_code)
    if has_unread_files or answer.inconclusive:
        raise Exit(ConfigError.exit_code)


def _log_end(run: RunSnapshot) -> tuple[TrainingLog | None, list[str]]:
    """Return what the whole log of an ended run shows, and a note if it could not be read."""
    if run.health.state not in ("failed", "died", "ended"):
        return None, []
    try:
        return fetch_log_end(nodes.resolve(run.run.node), run.run.run_id), []
    except GibletError as error:
        return None, [f"Only the last lines of its log could be read: {error.message}"]
