"""`giblet demo`: the whole main job on this machine: a real film, a simulated brain, a run watched and judged; or a run
in which something really goes wrong, to see it caught.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from msgspec.structs import replace

from giblet_train.diagnosis.fault_catalog import FAULTS, Fault
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import FAILED, OK, ConfigError
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, Settings
from giblet_tui.cli.completion import fault_names
from giblet_tui.cli.console import next_commands, on_terminal, print_data, print_status, show_json
from giblet_tui.cli.dashboard import open_dashboard
from giblet_tui.cli.follow_output import detach_on_interrupt, follow_and_print, print_result
from giblet_tui.cli.launch_steps import build_request, launch_and_print
from giblet_tui.cli.stop import stop_run
from giblet_tui.inventory import configs, nodes
from giblet_tui.inventory.nodes import Multiplexer, Node
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.follow import follow
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.fault_outcome import alert_of, outcome, outcome_lines
from giblet_tui.reporting.formatting import table
from giblet_tui.reporting.progress_lines import ProgressPrinter

GRACE_S = 5.0
"""For a drill's last checkpoint: nobody needs it."""


@command(
    app,
    "demo",
    "giblet demo",
    "giblet demo --headless",
    "giblet demo nan",
    "giblet demo stall --json",
    "giblet demo --list",
    "giblet demo --set num_epochs=4",
)
def demo(
    fault: Annotated[
        str | None,
        typer.Argument(metavar="[FAULT]", help="See it caught; --list names them.", autocompletion=fault_names),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Lines in place of the dashboard.")] = False,
    faults: Annotated[bool, typer.Option("--list", help="The faults, and which cause each must be named as.")] = False,
    settings: Settings = None,
    session: Annotated[
        Multiplexer | None, typer.Option(help="What holds it; what the node prefers if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a study from a real film and a simulated brain, train on it here, watch it live, judge it.

    Off a terminal it is headless: progress on stderr, the verdict last on stdout, exit code 0 only when it passed.
    Ctrl-C, or leaving the dashboard, does not stop the run.

    With a FAULT something really goes wrong in that run. You are told when the records show it and when the watcher
    beside the run says so, in steps; then the run is stopped. Exit code 0 when it was caught (of `good`: nothing).
    """
    if faults:
        _list()
        return
    node = nodes.resolve(nodes.LOCAL)
    if fault is not None:
        raise typer.Exit(_drill(node, _known(fault), settings or [], session, json))
    loaded = configs.read("demo", settings or ())
    run_id = launch_and_print([node], build_request(loaded.config, session=session, again=False, force=False))
    if headless or not on_terminal():
        raise typer.Exit(follow_and_print(node, run_id, ProgressPrinter()))
    open_dashboard([node])
    run = cache.load().run(run_id)
    if run is None or run.health.live:
        print_status(f"The run goes on: {run_id}\n{next_commands(run_id, live=True)}")
        return
    raise typer.Exit(print_result(run))


def _list() -> None:
    print_data(
        table(("FAULT", "MUST BE NAMED", "WHAT HAPPENS"), [(d.name, d.cause or "–", d.says) for d in FAULTS.values()])
    )


def _known(fault: str) -> Fault:
    if fault not in FAULTS:
        raise ConfigError(f"No fault is called {fault!r}{nearest(fault, list(FAULTS)) or '.'}", "giblet demo --list")
    return FAULTS[fault]


def _drill(node: Node, drill: Fault, settings: list[str], session: Multiplexer | None, json: bool) -> int:
    """Start the run, follow it until the fault is named or it has ended, stop it, tell. The exit code."""
    laid = {"name": f"demo-{drill.name}", "note": f"drill: {drill.says}", **drill.settings}
    loaded = configs.read("demo", (*(f"{key}={msgspec.json.encode(v).decode()}" for key, v in laid.items()), *settings))
    request = build_request(loaded.config, session=session, again=True, force=False)
    run_id = launch_and_print([node], replace(request, drill=drill.name, grace_s=GRACE_S))
    run = _until_raised(node, run_id, drill)
    # Judged as it stood when the fault was named: once it is stopped, a run that stood still does so no more.
    seen = outcome(run if run is not None and run.health.live else find_run.fetch_run(node, run_id), drill)
    if run is not None and run.health.live:
        print_status(stop_run(run_id, print_status))
    if json:
        show_json(msgspec.to_builtins(seen) | {"run_id": run_id, "caught": seen.caught})
    else:
        print_data("\n".join(outcome_lines(seen)))
    return OK if seen.caught else FAILED


def _until_raised(node: Node, run_id: str, drill: Fault) -> RunSnapshot | None:
    """Follow the run, telling it, until the watcher has raised the drill's cause, or it has ended."""
    narrator, run = ProgressPrinter(), None
    with detach_on_interrupt(run_id):
        for seen in follow(node, run_id):
            run = seen.run or run
            for line in narrator.new_lines(run) if run else ():
                print_status(line)
            if run is not None and alert_of(run, drill) is not None and not _ending(run):
                break
    return run


def _ending(run: RunSnapshot) -> bool:
    """Has the trainer said its last word? Then the run's own end is waited for, not made."""
    return run.heartbeat is not None and run.heartbeat.state in ("finished", "stopped", "failed")
