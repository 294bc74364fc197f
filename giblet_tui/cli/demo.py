"""`giblet demo`: the whole main job on this machine: a real film, a simulated brain, a run watched and judged."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.configs import Settings
from giblet_tui.cli.launch import Session, asked, start, tell
from giblet_tui.cli.monitor import open_dashboard
from giblet_tui.cli.runs import next_commands
from giblet_tui.cli.speech import say


@verb(app, "demo", "giblet demo", "giblet demo --headless", "giblet demo --set num_epochs=4")
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="Lines in place of the dashboard.")] = False,
    settings: Settings = None,
    session: Annotated[Session | None, typer.Option(help="What holds it; what the node prefers if not given.")] = None,
) -> None:
    """Make a study from a real film and a simulated brain, train on it here, watch it live, judge it.

    Off a terminal it is headless: progress on stderr, the verdict last on stdout, exit code 0 only when it passed.
    Ctrl-C, or leaving the dashboard, does not stop the run.
    """
    from giblet_tui import catalog, nodes
    from giblet_tui.narrator import Narrator

    node = nodes.resolve(nodes.LOCAL)
    loaded = catalog.read("demo", settings or ())
    run_id = start(node, asked(loaded.config, session=session, again=False, force=False))
    if headless or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.Exit(tell(node, run_id, Narrator()))
    code = open_dashboard([node])
    say(next_commands(run_id, live=True))
    raise typer.Exit(code)
