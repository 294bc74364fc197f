"""`giblet logs`: what a run printed; with -f until the run ends, through lost connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from giblet_tui.cli.app import app, verb
from giblet_tui.cli.runs import Json, RunName
from giblet_tui.cli.speech import say, show, show_json

if TYPE_CHECKING:
    from giblet_tui.nodes import Node


@verb(app, "logs", "giblet logs @last -f", "giblet logs demo -n 20")
def logs(
    name: RunName,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends; then its result.")] = False,
    n_lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="So many lines of the end first.")] = 200,
    json: Json = False,
) -> None:
    """Print the end of a run's log. With -f it goes on, through lost connections, until the run has ended.

    The exit code with -f is the run's: 1 when it failed or died. Ctrl-C ends the looking, not the run.
    """
    from giblet_train.contract.errors import INTERRUPTED
    from giblet_tui import lookup
    from giblet_tui.logend import log_end

    node, run_id = lookup.locate(name, say)
    try:
        lines, offset = log_end(node, run_id, n_lines)
        _show_lines(run_id, lines, offset, json)
        if follow:
            raise typer.Exit(_follow(node, run_id, offset, json))
    except KeyboardInterrupt:
        say(f"\nThe run is not touched by this. To stop it: giblet stop {run_id}")
        raise typer.Exit(INTERRUPTED) from None


def _follow(node: Node, run_id: str, offset: int, json: bool) -> int:
    """Show what the log gains until the run has ended; its result as an exit code."""
    from giblet_train.contract.errors import OK, RunFailed
    from giblet_tui.watch import follow_log

    for chunk in follow_log(node, run_id, offset):
        _show_lines(run_id, chunk.lines, chunk.offset, json)
        if chunk.notice:
            say(f"{chunk.notice} Connecting again; the run is not touched by this.")
        if chunk.health:
            say(f"{run_id} {chunk.health.state}: {chunk.health.sentence}")
            return RunFailed.exit_code if chunk.health.state in ("failed", "died") else OK
    return OK


def _show_lines(run_id: str, lines: Sequence[str], offset: int, json: bool) -> None:
    from giblet_tui.shapes import SCHEMA

    if json and lines:
        show_json({"schema": SCHEMA, "run_id": run_id, "offset": offset, "lines": list(lines)})
    elif lines:
        show("\n".join(lines))
