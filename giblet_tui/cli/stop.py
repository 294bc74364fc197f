"""`giblet stop`: end runs, and prove that nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from giblet_tui.cli.app import app, command
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import confirm, print_data, print_error, print_status

if TYPE_CHECKING:
    from giblet_train.schema.errors import GibletError
    from giblet_tui.control.stop import StaleRun, StopResult
    from giblet_tui.inventory.nodes import Node
    from giblet_tui.monitor.snapshots import RunSnapshot


@command(
    app,
    "stop",
    "giblet stop @last",
    "giblet stop demo-20261122-2 --grace 30",
    "giblet stop --stale",
    "giblet stop --stale tensor01 tensor02 --yes",
)
def stop(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs; with --stale nodes, or none for all.", autocompletion=run_ids),
    ] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Runs that hold on to something for nothing.")] = False,
    grace: Annotated[
        float | None,
        typer.Option(min=0.0, max=3600.0, help="Seconds for a last checkpoint; the run's own if not given."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Leave the grace out: at once.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: stale runs, or a production run.")] = False,
) -> None:
    """End runs: asked to save and stop, then told, then killed; then proved that no process, session or GPU is left.

    Exit code 4 names what survives. Stopping what has ended is a success. The node finishes the job without us.
    """
    from giblet_train.schema.errors import INTERRUPTED, ConfigError

    if not names and not stale:
        raise ConfigError("Which run?", "giblet stop RUN, giblet stop @last, or giblet stop --stale")
    chosen, faults = (_stale_runs(names or (), yes), []) if stale else _named_runs(names or (), yes)
    try:
        _stop_each(chosen, faults, grace, force)
    except KeyboardInterrupt:
        print_status("\nThe node finishes what was begun. To see how it ended, repeat the stop.")
        raise typer.Exit(INTERRUPTED) from None


def stop_run(run_id: str, say: Callable[[str], None]) -> str:
    """Stop one run and prove it: the sentence that says so. Raises GibletError, TargetNotReached naming survivors."""
    from giblet_tui.control.stop import raise_if_survivors
    from giblet_tui.monitor import find_run

    node, whole = find_run.locate(run_id, say)
    stopped = [_end(part, whole, None, False, say) for part in find_run.all_nodes(_last_known_run(node, whole))]
    raise_if_survivors(stopped)
    return " ".join(each.sentence for each in stopped)


def _stop_each(
    chosen: Sequence[tuple[Node, str]], faults: Sequence[GibletError], grace: float | None, force: bool
) -> None:
    """Stop run after run, whatever becomes of the others. Raises TargetNotReached for survivors before other faults."""
    from giblet_train.schema import errors
    from giblet_tui.control.stop import raise_if_survivors

    stopped: list[StopResult] = []
    met = list(faults)
    for node, run_id in chosen:
        try:
            stopped.append(_stop_one(node, run_id, grace, force, print_status))
        except errors.GibletError as error:
            met.append(error)
    survived = any(each.survivors for each in stopped)
    for fault in met if survived else met[1:]:
        print_error(fault)
    raise_if_survivors(stopped)
    if met:
        raise met[0]


def _stop_one(node: Node, run_id: str, grace: float | None, force: bool, say: Callable[[str], None]) -> StopResult:
    from giblet_tui.monitor import find_run

    say(f"stopping {run_id} on {node.name}")
    stopped = _end(node, run_id, grace, force, say)
    print_data(stopped.sentence)
    find_run.observe([node])
    return stopped


def _end(node: Node, run_id: str, grace: float | None, force: bool, say: Callable[[str], None]) -> StopResult:
    from giblet_tui.connection.connect import connect
    from giblet_tui.control.stop import stop as end

    with connect(node) as connection:
        return end(node, connection, run_id, say, grace_s=grace, force=force)


def _named_runs(names: Sequence[str], yes: bool) -> tuple[list[tuple[Node, str]], list[GibletError]]:
    """The runs that are meant, each agreed to; and why those of a node that cannot be reached are left out."""
    from giblet_tui.errors import Unreachable
    from giblet_tui.monitor import find_run

    found: list[tuple[Node, str]] = []
    faults: list[GibletError] = []
    for node, run_id in [find_run.locate(name, print_status) for name in dict.fromkeys(names)]:
        try:
            run = _last_known_run(node, run_id)
        except Unreachable as error:
            faults.append(type(error)(f"{run_id} was not stopped: {error.message}", error.remedy))
            continue
        _confirm_production(run, yes)
        found += [(part, run_id) for part in find_run.all_nodes(run)]
    return found, faults


def _last_known_run(node: Node, run_id: str) -> RunSnapshot:
    """The run as it is, or was when last seen: where its first node is silent, its others can still be stopped."""
    from giblet_tui.errors import Unreachable
    from giblet_tui.monitor import cache, find_run

    try:
        return find_run.fetch_run(node, run_id)
    except Unreachable:
        known = cache.load().run(run_id)
        if known is None or len(known.run.nodes) < 2:
            raise
        return known


def _confirm_production(run: RunSnapshot, yes: bool) -> None:
    """A living run of the production stage is stopped only by --yes, or by its name typed at a terminal."""
    from giblet_train.schema.errors import PreflightRefused
    from giblet_tui.cli.console import prompt_line

    run_id = run.run.run_id
    if yes or not run.health.live or run.config is None or run.config.stage != "production":
        return
    if prompt_line(f"{run_id} is a production run. Type its name, {run.run.name}, to stop it:") != run.run.name:
        raise PreflightRefused(f"{run_id} is a production run; nothing was stopped.", "Type its name, or add --yes.")


def _stale_runs(names: Sequence[str], yes: bool) -> list[tuple[Node, str]]:
    """The stale runs of these nodes (all if none), listed with the reason, and agreed to once.

    Raises Unreachable when nothing is stale but a node could not be asked.
    """
    from giblet_train.schema.errors import PreflightRefused
    from giblet_tui.errors import Unreachable
    from giblet_tui.inventory import nodes

    found: list[tuple[Node, StaleRun]] = []
    silent: list[str] = []
    for node in [nodes.resolve(name) for name in names] if names else nodes.known_nodes():
        try:
            stale, others = _stale_on(node)
            found += [(node, run) for run in stale]
            for line in others:
                print_status(f"{node.name}: {line}")
        except Unreachable as error:
            silent.append(node.name)
            print_status(f"{node.name} was not asked: {error.message}")
    for node, run in found:
        print_status(f"{run.run_id} on {node.name}{f', launched by {run.by}' if run.by else ''}: {run.why}")
    if not found and silent:
        raise Unreachable(
            f"Whether anything is stale on {', '.join(silent)} is not known.", "Try again once it can be reached."
        )
    if not found:
        print_status("Nothing is stale.")
    elif not yes and not confirm(f"Stop {'it' if len(found) == 1 else f'these {len(found)}'}?"):
        raise PreflightRefused("Nothing was stopped.", "Answer y, or add --yes.")
    return [(node, run.run_id) for node, run in found]


def _stale_on(node: Node) -> tuple[list[StaleRun], list[str]]:
    """The stale runs of a node, and a line for what else holds its GPUs and is not giblet's to end."""
    from giblet_tui.connection.connect import connect
    from giblet_tui.control.stop import find_stale, probe_resources, unowned_gpu_processes

    with connect(node) as connection:
        seen = probe_resources(node, connection)
    return find_stale(node, seen), unowned_gpu_processes(seen)
