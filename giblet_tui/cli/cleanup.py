"""`giblet rm` and `prune`: free space on nodes, and never take what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import NodeName
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import confirm, print_data, print_status
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.control import cleanup
from giblet_tui.control.cleanup import DiskItem
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and how much it holds; remove nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@command(app, "rm", "giblet rm demo-20261122-101500-3fa9 --dry-run", "giblet rm demo-20261122 demo-20261123 --yes")
def rm(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ended runs.", autocompletion=run_ids)],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove ended runs from their nodes: records, log and checkpoints. What is gone is gone.

    A run that lives, one that another was promoted from, or that a living run goes on from stays: exit code 5.
    """
    by_node: dict[Node, list[str]] = {}
    for node, run_id in [find_run.locate(name, print_status) for name in dict.fromkeys(names)]:
        by_node.setdefault(node, []).append(run_id)
    kept = 0
    for node, run_ids_there in by_node.items():
        with connect(node) as connection:
            found = [each for each in cleanup.list_disk_usage(node, connection) if each.name in run_ids_there]
            if gone := sorted(set(run_ids_there) - {each.name for each in found}):
                raise ConfigError(f"{node.name} has no run {', '.join(gone)} any more.", "`giblet ps -a` lists them.")
            kept += _clear(node, connection, found, dry_run, yes)
    _refuse(kept)


@command(app, "prune", "giblet prune tensor01 --dry-run", "giblet prune tensor01 --older-than 7 --yes")
def prune(
    name: NodeName,
    older_than: Annotated[float, typer.Option(min=0.0, help="Days since an ended run last changed.")] = 30.0,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove a node's long-ended runs, and the environments of other versions that no living run uses.

    Never a living run, what one goes on from or runs in, a run that another was promoted from, or what giblet did
    not make.
    """
    node = nodes.resolve(name)
    with connect(node) as connection:
        found = cleanup.prune_candidates(cleanup.list_disk_usage(node, connection), older_than)
        if not found:
            print_status(f"Nothing on {node.name} may go.")
            return
        _refuse(_clear(node, connection, found, dry_run, yes))


def _clear(node: Node, connection: Connection, found: Sequence[DiskItem], dry_run: bool, yes: bool) -> int:
    """List, ask, remove; how many things had to stay. Raises PreflightRefused when the person says no."""
    for each in found:
        print_status(f"{node.name}: {each.sentence}")
    going = [each for each in found if not each.kept]
    total = cleanup.format_bytes(sum(each.bytes for each in going))
    if dry_run:
        print_data(f"{total} would be freed on {node.name}; nothing was removed.")
        return 0
    if (
        going
        and not yes
        and not confirm(f"Remove {'it' if len(going) == 1 else f'these {len(going)}'} ({total}) for good?")
    ):
        raise PreflightRefused("Nothing was removed.", "Answer y, or add --yes.")
    cleared = cleanup.remove(node, connection, going, print_status)
    for removed, why in cleared.refused.items():
        print_status(f"{node.name}: {removed} stays: {why}")
    print_data(f"{cleanup.format_bytes(cleared.bytes)} freed on {node.name}.")
    find_run.observe([node])
    return len(found) - len(cleared.removed)


def _refuse(kept: int) -> None:
    if kept:
        raise typer.Exit(PreflightRefused.exit_code)
