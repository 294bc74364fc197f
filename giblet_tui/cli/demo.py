"""`giblet demo`: the whole main job on this machine: a real film, a simulated brain, a run watched and judged."""

from __future__ import annotations

from typing import Annotated

import typer

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.configs import Settings
from giblet_tui.cli.launch import Session, asked, start
from giblet_tui.cli.monitor import on_terminal, open_dashboard
from giblet_tui.cli.speech import next_commands, say
from giblet_tui.cli.telling import conclude, tell


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
    from giblet_tui import cache, catalog, nodes
    from giblet_tui.narrator import Narrator

    node = nodes.resolve(nodes.LOCAL)
    loaded = catalog.read("demo", settings or ())
    run_id = start(node, asked(loaded.config, session=session, again=False, force=False))
    if headless or not on_terminal():
        raise typer.Exit(tell(node, run_id, Narrator()))
    open_dashboard([node])
    run = cache.load().run(run_id)
    if run is None or run.health.live:
        say(f"The run goes on: {run_id}\n{next_commands(run_id, live=True)}")
        return
    raise typer.Exit(conclude(run))
