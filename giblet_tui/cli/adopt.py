"""`giblet adopt`: a training that somebody started by hand becomes visible and can be stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import NodeName
from giblet_tui.cli.console import current_user, next_commands, print_data, print_status
from giblet_tui.cli.nodes import remember
from giblet_tui.connection.connect import connect
from giblet_tui.control.adopt import adopt as take_in
from giblet_tui.inventory import nodes
from giblet_tui.monitor import find_run


@command(
    app,
    "adopt",
    "giblet adopt tensor01 train_v3",
    "giblet adopt tensor01 4242.train_v3 --log '~/logs/training_v3.log' --name v3",
)
def adopt(
    name: NodeName,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="A screen or tmux session, or PID.name.")],
    log: Annotated[str | None, typer.Option(help="The log it writes, there; looked for if not given.")] = None,
    run_name: Annotated[str | None, typer.Option("--name", help="Of the run; the session's if not given.")] = None,
) -> None:
    """Take in a screen or tmux session that was started by hand: it is in `ps` and the dashboard, and `stop` ends it.

    The session is not touched. Its log's epoch lines become the run's metrics; what nobody can know (configuration,
    components, exit code) stays empty. `stop` ends everything in the session. stdout has the run's id.
    """
    node = nodes.resolve(name)
    with connect(node) as connection:
        done = take_in(node, connection, session, current_user(), name=run_name, log=log)
    some = "1 process" if len(done.pids) == 1 else f"{len(done.pids)} processes"
    print_status(f"{session} has {some}: pid {', '.join(map(str, done.pids[:8]))}")
    print_status(f"its log: {done.log}" if done.log else "No log was found: name one with --log after `giblet stop`.")
    if done.again:
        print_status("It was adopted before; its keeper had gone, and there is a new one.")
    print_data(done.run_id)
    remember(node)
    find_run.observe([node])
    print_status(next_commands(done.run_id, live=True))
