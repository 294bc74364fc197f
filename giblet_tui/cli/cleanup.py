"""`giblet rm` and `prune`: free disk space on nodes without removing what is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, NodeName
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import confirm, print_data, print_status, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.control import cleanup
from giblet_tui.control.cleanup import DiskItem
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run
from giblet_tui.reporting import SCHEMA

DryRun = Annotated[bool, Option("--dry-run", help="Show what would be removed and its size.")]
Yes = Annotated[bool, Option("--yes", help="Do not ask for confirmation.")]


@command(app, "rm", "giblet rm demo-20261122-101500-3fa9 --dry-run", "giblet rm demo-20261122 demo-20261123 --yes")
def rm(
    names: Annotated[list[str], Argument(metavar="RUN...", help="Runs that have ended.", autocompletion=run_ids)],
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove ended runs from their nodes: records, log and checkpoints. This cannot be undone.

    Live runs, and runs from which another was promoted or a live run was resumed, are kept: exit code 5.
    """
    by_node: dict[Node, list[str]] = {}
    for node, run_id in find_run.locate_all(names, print_status):
        by_node.setdefault(node, []).append(run_id)
    n_kept = 0
    for node, run_ids_there in by_node.items():
        with connect(node) as connection:
            items = [item for item in cleanup.list_disk_usage(node, connection) if item.name in run_ids_there]
            if missing := sorted(set(run_ids_there) - {item.name for item in items}):
                raise ConfigError(
                    f"{node.name} has no {', '.join(missing)} of yours.", "`giblet ps -a` lists all runs."
                )
            n_kept += _clear(node, connection, items, dry_run, yes, json)
    _refuse(n_kept)


@command(app, "prune", "giblet prune tensor01 --dry-run", "giblet prune tensor01 --older-than 7 --yes")
def prune(
    name: NodeName,
    older_than: Annotated[float, Option(min=0.0, help="Days since an ended run last changed.")] = 30.0,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove old runs from a node, and environments of other versions that no live run uses.

    Kept are live runs and what they were resumed from or run in, runs from which another was promoted, and everything
    that giblet did not make.
    """
    node = nodes.resolve(name)
    with connect(node) as connection:
        items = cleanup.prune_candidates(cleanup.list_disk_usage(node, connection), older_than)
        if not items:
            print_status(f"There is nothing to remove on {node.name}.")
            _show_cleared(node, items, {}, {}) if json else None
            return
        _refuse(_clear(node, connection, items, dry_run, yes, json))


def _clear(node: Node, connection: Connection, items: Sequence[DiskItem], dry_run: bool, yes: bool, json: bool) -> int:
    """List, ask, remove; return how many items had to stay. Raises PreflightRefused if the user declines."""
    for item in items:
        print_status(f"{node.name}: {item.sentence}")
    removable = [item for item in items if not item.kept]
    total = cleanup.format_bytes(sum(item.bytes for item in removable))
    if dry_run:
        if json:
            _show_cleared(node, items, {}, {})
        else:
            print_data(f"{total} would be freed on {node.name}; nothing was removed.")
        return 0
    if (
        removable
        and not yes
        and not confirm(f"Remove {'it' if len(removable) == 1 else f'these {len(removable)}'} ({total}) for good?")
    ):
        raise PreflightRefused("Nothing was removed.", "Answer y, or add --yes.")
    result = cleanup.remove(node, connection, removable, print_status)
    for removed_runs, why in result.refused.items():
        print_status(f"{node.name}: {removed_runs} stays: {why}")
    if json:
        _show_cleared(node, items, result.removed, result.refused)
    else:
        print_data(f"{cleanup.format_bytes(result.bytes)} freed on {node.name}.")
    find_run.observe([node])
    return len(items) - len(result.removed)


def _show_cleared(
    node: Node, items: Sequence[DiskItem], bytes_by_run: Mapping[str, int], refusals: Mapping[str, str]
) -> None:
    """Print one JSON object: what was listed on the node, the bytes freed by name, and why others stay."""
    facts = {"node": node.name, "items": [msgspec.to_builtins(item) for item in items]}
    show_json({"schema": SCHEMA, **facts, "removed": dict(bytes_by_run), "refused": dict(refusals)})


def _refuse(n_kept: int) -> None:
    if n_kept:
        raise Exit(PreflightRefused.exit_code)
