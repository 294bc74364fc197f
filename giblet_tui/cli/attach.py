"""`giblet attach` and `pull`: open a run's terminal, copy its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.records import CheckpointRecord
from giblet_tui.agent.sessions import BACKENDS
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import check_parent, confirm, print_data, print_status, show_json
from giblet_tui.cli.parameters import Exit, Option
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import AttachableSession
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA
from giblet_tui.results import pull as pulling
from giblet_tui.results.pull import ASK_ABOVE_BYTES


@command(app, "attach", "giblet attach @last", "giblet attach @last --write")
def attach(
    name: RunName,
    write: Annotated[bool, Option("-w", "--write", help="Send keys to the run; default: only look.")] = False,
) -> None:
    """Open the terminal of a run's tmux or screen session. Leave tmux with ctrl-b d, screen with ctrl-a d.

    A Slurm job has no terminal: --write opens a shell on its first compute node, within what the job was given.
    """
    node, run_id = find_run.locate(name, print_status)
    snapshot = find_run.fetch_run(node, run_id)
    run = snapshot.run
    if not snapshot.health.live:
        raise ConfigError(f"{run_id} has ended, so it has no terminal.", f"giblet logs {run_id}")
    backend = BACKENDS[run.multiplexer]
    if not (backend.has_terminal or (write and backend.has_shell)):
        shell = f", or a shell where it runs: giblet attach {run_id} --write" if backend.has_shell else ""
        raise ConfigError(f"{run_id} is {backend.phrase} and has no terminal.", f"giblet logs {run_id} -f{shell}")
    with connect(node) as connection:
        arguments = {"workdir": node.workdir, "run_id": run_id, "write": write}
        session = connection.call("uncover", arguments, AttachableSession)
        raise Exit(connection.interactive(list(session.argv)))


@command(app, "pull", "giblet pull @last", "giblet pull demo --logs", "giblet pull @last --last --to ~/weights")
def pull(
    name: RunName,
    best: Annotated[bool, Option("--best", help="Also the best checkpoint.")] = False,
    last: Annotated[bool, Option("--last", help="Also the newest checkpoint.")] = False,
    logs: Annotated[bool, Option("--logs", help="Only records, configuration and log.")] = False,
    to: Annotated[Path | None, Option(help="Local folder; default: ./<run id>.")] = None,
    yes: Annotated[bool, Option("--yes", help="Copy more than 100 MB without asking.")] = False,
    json: Json = False,
) -> None:
    """Copy a run's records and log to this machine, and a checkpoint if asked. An interrupted copy is continued.

    The folder has the layout of a run directory, so `giblet why` and the engine's commands can read it. The paths of
    the copied files are printed.
    """
    node, run_id = find_run.locate(name, print_status)
    run = find_run.fetch_run(node, run_id)
    roles = [role for role, is_requested in (("best", best), ("last", last)) if is_requested and not logs]
    commands = {role: f"giblet pull {run_id} --{role}" for role in ("best", "last")}
    checkpoints = [record for role in roles if _confirm_size(record := pulling.checkpoint(run, role, commands), yes)]
    target = to.expanduser() if to else Path(run_id)
    check_parent(target)
    with connect(node) as connection:
        paths = []
        for path in _copies(connection, node, run, target, checkpoints):
            paths.append(str(path))
            if not json:
                print_data(paths[-1])
    if json:
        show_json({"schema": SCHEMA, "run_id": run_id, "node": node.name, "paths": paths})


def _copies(
    connection: Connection, node: Node, run: RunSnapshot, target: Path, checkpoints: Sequence[CheckpointRecord]
) -> Iterator[Path]:
    """Copy records, log and checkpoints; yield the path of each file when it is complete.

    Raises ConfigError if they cannot be written here.
    """
    try:
        yield from pulling.record_files(connection, node, run, target, print_status)
        for record in checkpoints:
            yield pulling.weights(connection, node, run, record, target, print_status)
    except (ConnectionError, TimeoutError):  # they are of the network, not of a file
        raise
    except OSError as error:
        raise ConfigError(
            f"{error.filename or target} cannot be written: {error.strerror or error}.",
            "Make room and repeat the command: it continues. Or choose another --to.",
        ) from None


def _confirm_size(record: CheckpointRecord, yes: bool) -> bool:
    if record.bytes <= ASK_ABOVE_BYTES or yes or confirm(f"{record.file} has {record.bytes / 1e6:.0f} MB. Copy it?"):
        return True
    raise PreflightRefused(f"{record.file} has {record.bytes / 1e6:.0f} MB; nothing was copied.", "Add --yes.")
