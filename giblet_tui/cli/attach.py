"""`giblet attach` and `pull`: into a run's own terminal, and its files over here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import RunName
from giblet_tui.cli.console import confirm, print_data, print_status
from giblet_tui.connection.connect import connect
from giblet_tui.monitor import find_run
from giblet_tui.results import pull as pulling
from giblet_tui.results.pull import ASK_ABOVE_BYTES


@command(app, "attach", "giblet attach @last", "giblet attach @last --write")
def attach(
    name: RunName,
    write: Annotated[
        bool, typer.Option("-w", "--write", help="Keys go to the run; else it is only looked at.")
    ] = False,
) -> None:
    """Open the terminal of a run's tmux or screen session. Leave tmux by ctrl-b d, screen by ctrl-a d."""
    node, run_id = find_run.locate(name, print_status)
    seen = find_run.fetch_run(node, run_id)
    run = seen.run
    if not seen.health.live:
        raise ConfigError(f"{run_id} has ended, and its terminal with it.", f"giblet logs {run_id}")
    backend = BACKENDS[run.multiplexer]
    if not backend.has_terminal:
        raise ConfigError(f"{run_id} is {backend.phrase} and has no terminal.", f"giblet logs {run_id} -f")
    with connect(node) as connection:
        session = connection.call("uncover", {"workdir": node.workdir, "run_id": run_id, "write": write})
        raise typer.Exit(connection.interactive(session["argv"]))


@command(app, "pull", "giblet pull @last", "giblet pull demo --logs", "giblet pull @last --last --to ~/weights")
def pull(
    name: RunName,
    best: Annotated[bool, typer.Option("--best", help="The best checkpoint.")] = False,
    last: Annotated[bool, typer.Option("--last", help="The newest checkpoint.")] = False,
    logs: Annotated[bool, typer.Option("--logs", help="Only records, configuration and log.")] = False,
    to: Annotated[Path | None, typer.Option(help="A folder here; ./<run id> if not given.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also more than 100 MB, without asking.")] = False,
) -> None:
    """Bring a run's records and log here, and a checkpoint if asked; a pull that was cut goes on where it was.

    The folder is laid out as the run's own: `giblet why` and the engine's commands read it. Paths of what came are
    printed.
    """
    node, run_id = find_run.locate(name, print_status)
    run = find_run.fetch_run(node, run_id)
    wanted = [role for role, asked in (("best", best), ("last", last)) if asked and not logs]
    ways = {role: f"giblet pull {run_id} --{role}" for role in ("best", "last")}
    chosen = [record for role in wanted if _confirm_size(record := pulling.checkpoint(run, role, ways), yes)]
    target = to or Path(run_id)
    with connect(node) as connection:
        for path in pulling.record_files(connection, node, run, target, print_status):
            print_data(str(path))
        for record in chosen:
            print_data(str(pulling.weights(connection, node, run, record, target, print_status)))


def _confirm_size(record: CheckpointRecord, yes: bool) -> bool:
    if record.bytes <= ASK_ABOVE_BYTES or yes or confirm(f"{record.file} has {record.bytes / 1e6:.0f} MB. Bring it?"):
        return True
    raise PreflightRefused(f"{record.file} has {record.bytes / 1e6:.0f} MB; nothing was brought.", "Add --yes.")
