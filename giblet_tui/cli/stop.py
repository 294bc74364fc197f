"""`giblet stop`: end runs, and prove that nothing of them is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from giblet_train.schema.errors import INTERRUPTED, ConfigError, GibletError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import run_ids
from giblet_tui.cli.console import confirm, print_data, print_error, print_status, prompt_line, show_json
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.connect import connect
from giblet_tui.control import stop as control
from giblet_tui.control.stop import StaleRun, StopResult, raise_if_survivors
from giblet_tui.errors import Unreachable
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA

Report = Callable[[str], None]


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
        Argument(metavar="[RUN]...", help="Runs; with --stale: nodes, default all.", autocompletion=run_ids),
    ] = None,
    stale: Annotated[
        bool,
        Option("--stale", help="Select runs that hold GPUs, processes or sessions but make no progress."),
    ] = False,
    grace: Annotated[
        float | None,
        Option(min=0.0, max=3600.0, help="Seconds for a last checkpoint; default: the run's own grace."),
    ] = None,
    force: Annotated[bool, Option("--force", help="Kill at once, without time for a last checkpoint.")] = False,
    yes: Annotated[bool, Option("--yes", help="Do not ask about stale runs or a production run.")] = False,
    json: Json = False,
) -> None:
    """End runs: ask to save and stop, then TERM, then KILL; then prove that no process, session or GPU is left.

    Exit code 4 names what survives. Stopping a run that has ended succeeds. The node finishes the stop even if this
    machine disconnects.
    """
    if not names and not stale:
        raise ConfigError("No run was named.", "giblet stop RUN, giblet stop @last, or giblet stop --stale")
    targets, errors = (_stale_runs(names or (), yes), []) if stale else _named_runs(names or (), yes)
    try:
        _stop_all(targets, errors, grace, force, json)
    except KeyboardInterrupt:
        print_status("\nThe node finishes what was begun. To see how it ended, repeat the stop.")
        raise Exit(INTERRUPTED) from None


def stop_run(run_id: str, report: Report) -> str:
    """Stop one run on all its nodes and return the sentence that reports it. Raises TargetNotReached for survivors."""
    node, full_id = find_run.locate(run_id, report)
    nodes_of_run = find_run.all_nodes(_last_known_run(node, full_id))
    results = [_stop_on(part, full_id, None, False, report) for part in nodes_of_run]
    raise_if_survivors(results)
    return " ".join(result.sentence for result in results)


def _stop_all(
    targets: Sequence[tuple[Node, str]], errors: Sequence[GibletError], grace: float | None, force: bool, json: bool
) -> None:
    """Stop run after run, whatever happens to the others. Raises TargetNotReached for survivors before other errors."""
    results: list[StopResult] = []
    all_errors = list(errors)
    for node, run_id in targets:
        try:
            result = _stop_one(node, run_id, grace, force)
        except GibletError as error:
            all_errors.append(error)
            continue
        results.append(result)
        if not json:
            print_data(result.sentence)
    if json:
        show_json({"schema": SCHEMA, "runs": [_result_json(result) for result in results]})
    any_survivor = any(result.survivors for result in results)
    for failure in all_errors if any_survivor else all_errors[1:]:
        print_error(failure)
    raise_if_survivors(results)
    if all_errors:
        raise all_errors[0]


def _stop_one(node: Node, run_id: str, grace: float | None, force: bool) -> StopResult:
    print_status(f"stopping {run_id} on {node.name}")
    result = _stop_on(node, run_id, grace, force, print_status)
    find_run.observe([node])
    return result


def _result_json(result: StopResult) -> dict[str, Any]:
    return {**msgspec.to_builtins(result), "sentence": result.sentence}


def _stop_on(node: Node, run_id: str, grace: float | None, force: bool, report: Report) -> StopResult:
    with connect(node) as connection:
        return control.stop(node, connection, run_id, report, grace_s=grace, force=force)


def _named_runs(names: Sequence[str], yes: bool) -> tuple[list[tuple[Node, str]], list[GibletError]]:
    """Return the confirmed runs on each of their nodes, and the errors of those whose node cannot be reached."""
    runs: list[tuple[Node, str]] = []
    errors: list[GibletError] = []
    for node, run_id in find_run.locate_all(names, print_status):
        try:
            run = _last_known_run(node, run_id)
        except Unreachable as error:
            errors.append(type(error)(f"{run_id} was not stopped: {error.message}", error.remedy))
            continue
        _confirm_production(run, yes)
        runs += [(part, run_id) for part in find_run.all_nodes(run)]
    return runs, errors


def _last_known_run(node: Node, run_id: str) -> RunSnapshot:
    """Return the run as it is, or as last seen: its other nodes can be stopped while the first is unreachable."""
    try:
        return find_run.fetch_run(node, run_id)
    except Unreachable:
        last_snapshot = cache.load().run(run_id)
        if last_snapshot is None or len(last_snapshot.run.nodes) < 2:
            raise
        return last_snapshot


def _confirm_production(run: RunSnapshot, yes: bool) -> None:
    """Refuse to stop a live production run without --yes or its name typed at a terminal."""
    run_id = run.run.run_id
    if yes or not run.health.live or run.config is None or run.config.stage != "production":
        return
    if prompt_line(f"{run_id} is a production run. Type its name, {run.run.name}, to stop it:") != run.run.name:
        raise PreflightRefused(f"{run_id} is a production run; nothing was stopped.", "Type its name, or add --yes.")


def find_stale_runs(names: Sequence[str], report: Callable[[str], None]) -> list[tuple[Node, StaleRun]]:
    """Return the stale runs of these nodes, of all nodes if none is named.

    Calls `report` for what else holds GPUs, and for nodes that cannot be reached. Raises Unreachable if nothing is
    stale but a node could not be asked.
    """
    stale_runs: list[tuple[Node, StaleRun]] = []
    unreachable: list[str] = []
    for node in [nodes.resolve(name) for name in names] if names else nodes.known_nodes():
        try:
            stale, others = _stale_on(node)
            stale_runs += [(node, run) for run in stale]
            for line in others:
                report(f"{node.name}: {line}")
        except Unreachable as error:
            unreachable.append(node.name)
            report(f"{node.name} was not asked: {error.message}")
    if not stale_runs and unreachable:
        raise Unreachable(
            f"Whether anything is stale on {', '.join(unreachable)} is not known.", "Try again once it can be reached."
        )
    return stale_runs


def _stale_runs(names: Sequence[str], yes: bool) -> list[tuple[Node, str]]:
    """List the stale runs of these nodes (all if none) with the reason, ask once, and return them."""
    stale_runs = find_stale_runs(names, print_status)
    for node, run in stale_runs:
        print_status(f"{run.run_id} on {node.name}{f', launched by {run.by}' if run.by else ''}: {run.why}")
    if not stale_runs:
        print_status("Nothing is stale.")
    elif not yes and not confirm(f"Stop {'it' if len(stale_runs) == 1 else f'these {len(stale_runs)}'}?"):
        raise PreflightRefused("Nothing was stopped.", "Answer y, or add --yes.")
    return [(node, run.run_id) for node, run in stale_runs]


def _stale_on(node: Node) -> tuple[list[StaleRun], list[str]]:
    """Return the stale runs of a node, and a line for each other process of this user that holds its GPUs."""
    with connect(node) as connection:
        resources = control.probe_resources(node, connection)
    return control.find_stale(node, resources), control.unowned_gpu_processes(resources)
