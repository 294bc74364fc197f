"""`giblet adopt`: monitor and stop a training that was started by hand."""

from __future__ import annotations

from typing import Annotated

import msgspec

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, NodeName
from giblet_tui.cli.console import next_commands, print_data, print_status, show_json
from giblet_tui.cli.nodes import remember
from giblet_tui.cli.parameters import Argument, Option
from giblet_tui.connection.connect import connect
from giblet_tui.control.adopt import adopt as take_in
from giblet_tui.inventory import nodes
from giblet_tui.inventory.user import current_user
from giblet_tui.monitor import find_run
from giblet_tui.reporting import SCHEMA


@command(
    app,
    "adopt",
    "giblet adopt tensor01 train_v3",
    "giblet adopt tensor01 4242.train_v3 --log '~/logs/training_v3.log' --name v3",
)
def adopt(
    name: NodeName,
    session: Annotated[str, Argument(metavar="SESSION", help="Screen or tmux session, or PID.name.")],
    log: Annotated[str | None, Option(help="Its log file on the node; default: search for it.")] = None,
    run_name: Annotated[str | None, Option("--name", help="Name of the run; default: that of the session.")] = None,
    json: Json = False,
) -> None:
    """Monitor a screen or tmux session that was started by hand: `ps` and the dashboard show it, `stop` ends it.

    The session is not touched. Epoch lines of its log become the run's metrics; configuration, components and exit code
    stay unknown. `stop` ends everything in the session. The run's id is printed on stdout.
    """
    node = nodes.resolve(name)
    with connect(node) as connection:
        adoption = take_in(node, connection, session, current_user(), name=run_name, log=log)
    processes = "1 process" if len(adoption.pids) == 1 else f"{len(adoption.pids)} processes"
    print_status(f"{session} has {processes}: pid {', '.join(map(str, adoption.pids[:8]))}")
    print_status(
        f"log: {adoption.log}"
        if adoption.log
        else "No log was found. Stop the run with `giblet stop` and adopt the session again with --log."
    )
    if adoption.again:
        print_status("It was adopted before; the process that reads its log had ended and was started again.")
    if json:
        show_json({"schema": SCHEMA, "node": node.name, **msgspec.to_builtins(adoption)})
    else:
        print_data(adoption.run_id)
    remember(node)
    find_run.observe([node])
    print_status(next_commands(adoption.run_id, live=True))
