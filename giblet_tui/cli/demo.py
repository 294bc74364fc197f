"""`giblet demo`: train on a demo study on this machine and judge the run; or inject a fault and see it detected."""

from __future__ import annotations

from typing import Annotated

import msgspec
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
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.cli.stop import stop_run
from giblet_tui.inventory import configs, nodes
from giblet_tui.inventory.nodes import Multiplexer, Node
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.follow import follow
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.fault_outcome import alert_of, outcome, outcome_lines
from giblet_tui.reporting.progress_lines import ProgressPrinter
from giblet_tui.reporting.tables import table

GRACE_S = 5.0
"""Grace period of a run with an injected fault; nobody needs its last checkpoint."""


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
        Argument(metavar="[FAULT]", help="Inject this fault; see --list.", autocompletion=fault_names),
    ] = None,
    headless: Annotated[bool, Option("--headless", help="Print lines instead of the dashboard.")] = False,
    faults: Annotated[bool, Option("--list", help="List the faults and the cause that must be reported.")] = False,
    settings: Settings = None,
    session: Annotated[Multiplexer | None, Option(help="What keeps the run alive; default: that of the node.")] = None,
    json: Json = False,
) -> None:
    """Make a study from a real film and a simulated brain, train on it on this machine, watch and judge the run.

    Off a terminal it prints progress on stderr and the verdict last on stdout; exit code 0 only if the run passed.
    Ctrl-C, or closing the dashboard, does not stop the run.

    With a FAULT, that fault is injected into the run. The command reports after how many steps the records show it and
    the watcher raises an alert, and stops the run. Exit code 0 if it was detected (for `good`: if nothing was raised).
    """
    if faults:
        _list()
        return
    node = nodes.resolve(nodes.LOCAL)
    if fault is not None:
        raise Exit(_drill(node, _fault_named(fault), settings or [], session, json))
    source = configs.read("demo", settings or ())
    run_id = launch_and_print([node], build_request(source.config, session=session, again=False, force=False))
    if headless or not on_terminal():
        raise Exit(follow_and_print(node, run_id, ProgressPrinter()))
    open_dashboard([node])
    run = cache.load().run(run_id)
    if run is None or run.health.live:
        print_status(f"The run continues: {run_id}\n{next_commands(run_id, live=True)}")
        return
    raise Exit(print_result(run))


def _list() -> None:
    print_data(
        table(("FAULT", "MUST BE NAMED", "WHAT HAPPENS"), [(d.name, d.cause or "–", d.says) for d in FAULTS.values()])
    )


def _fault_named(fault: str) -> Fault:
    if fault not in FAULTS:
        raise ConfigError(f"No fault is called {fault!r}{nearest(fault, list(FAULTS)) or '.'}", "giblet demo --list")
    return FAULTS[fault]


def _drill(node: Node, fault: Fault, settings: list[str], session: Multiplexer | None, json: bool) -> int:
    """Start a run with a fault, follow it until it is detected or the run ends, stop it; return the exit code."""
    overrides = {"name": f"demo-{fault.name}", "note": f"drill: {fault.says}", **fault.settings}
    source = configs.read(
        "demo", (*(f"{key}={msgspec.json.encode(v).decode()}" for key, v in overrides.items()), *settings)
    )
    request = build_request(source.config, session=session, again=True, force=False)
    run_id = launch_and_print([node], replace(request, drill=fault.name, grace_s=GRACE_S))
    run = _until_raised(node, run_id, fault)
    # Judge the state before the stop: a stalled run is no longer stalled once it is stopped.
    result = outcome(run if run is not None and run.health.live else find_run.fetch_run(node, run_id), fault)
    if run is not None and run.health.live:
        print_status(stop_run(run_id, print_status))
    if json:
        show_json(msgspec.to_builtins(result) | {"run_id": run_id, "caught": result.caught})
    else:
        print_data("\n".join(outcome_lines(result)))
    return OK if result.caught else FAILED


def _until_raised(node: Node, run_id: str, fault: Fault) -> RunSnapshot | None:
    """Follow the run and print its progress until the watcher has raised the expected cause, or the run has ended."""
    progress, run = ProgressPrinter(), None
    with detach_on_interrupt(run_id):
        for update in follow(node, run_id):
            run = update.run or run
            for line in progress.new_lines(run) if run else ():
                print_status(line)
            if run is not None and alert_of(run, fault) is not None and not _ending(run):
                break
    return run


def _ending(run: RunSnapshot) -> bool:
    """Return True if the trainer is ending by itself; its end is then awaited, not caused."""
    return run.heartbeat is not None and run.heartbeat.state in ("finished", "stopped", "failed")
