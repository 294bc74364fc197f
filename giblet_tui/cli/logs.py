"""`giblet logs`: what a run printed; with -f until the run ends, through lost connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from giblet_train.schema.errors import INTERRUPTED, OK, ConfigError, GibletError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import print_data, print_error, print_status, show_json
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.logs import follow_logs, log_end
from giblet_tui.monitor.node_state import Mark
from giblet_tui.reporting.json_output import SCHEMA


@command(app, "logs", "giblet logs @last -f", "giblet logs demo -n 20", "giblet logs @last --node tensor02 -f")
def logs(
    name: RunName,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until the run ends; then its result.")] = False,
    n_lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="So many lines of the end first.")] = 200,
    on: Annotated[
        str | None, typer.Option("--node", metavar="NODE", help="Of a run over several nodes, this one's alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the end of a run's log. With -f it goes on, through lost connections, until the run has ended.

    Of a run over several nodes each line begins with its node. The exit code with -f is the run's: 1 when it failed or
    died. Ctrl-C ends the looking, not the run.
    """
    node, run_id = find_run.locate(name, print_status)
    shown = _Shown(run_id, _wanted(node, run_id, on), json)
    try:
        parts = shown.ends(n_lines)
        if follow:
            raise typer.Exit(shown.follow(parts))
    except KeyboardInterrupt:
        print_status(f"\nThe run is not touched by this. To stop it: giblet stop {run_id}")
        raise typer.Exit(INTERRUPTED) from None


def _wanted(node: Node, run_id: str, on: str | None) -> list[Node]:
    """The nodes whose logs are meant, the one with the records first. Raises ConfigError."""
    known = cache.load().run(run_id)
    every = find_run.all_nodes(known) if known is not None else [node]
    if on is None:
        return every
    chosen = [each for each in every if each.name == on]
    if not chosen:
        raise ConfigError(f"{run_id} has no part on {on}.", f"It has: {', '.join(each.name for each in every)}")
    return chosen


class _Shown:
    """The logs of a run on some nodes, as they are printed."""

    def __init__(self, run_id: str, nodes: Sequence[Node], json: bool) -> None:
        self.run_id, self.nodes, self.json = run_id, nodes, json

    def ends(self, n_lines: int) -> list[tuple[Node, Mark]]:
        """Show the end of each log; the nodes that could be asked, and the mark after what was shown.

        Raises GibletError when the only one, or all, could not be asked.
        """
        parts: list[tuple[Node, Mark]] = []
        faults: list[GibletError] = []
        for node in self.nodes:
            try:
                lines, mark = log_end(node, self.run_id, n_lines)
            except GibletError as error:
                faults.append(error)
                continue
            self._lines(node, lines, mark["offset"])
            parts.append((node, mark))
        if not parts:
            raise faults[0]
        for fault in faults:
            print_error(fault)
        return parts

    def follow(self, parts: Sequence[tuple[Node, Mark]]) -> int:
        """Show what the logs gain until the run has ended; its result as an exit code."""
        for node, chunk in follow_logs(self.run_id, parts):
            self._lines(node, chunk.lines, chunk.offset)
            if chunk.notice:
                print_status(f"{self._prefix(node)}{chunk.notice}")
            if chunk.health:
                print_status(f"{self.run_id} {chunk.health.state}: {chunk.health.sentence}")
                return RunFailed.exit_code if chunk.health.state in ("failed", "died") else OK
        return OK

    def _lines(self, node: Node, lines: Sequence[str], offset: int) -> None:
        if self.json and lines:
            told = {"schema": SCHEMA, "run_id": self.run_id, "node": node.name, "offset": offset, "lines": list(lines)}
            show_json(told)
        elif lines:
            prefix = self._prefix(node)
            print_data("\n".join(f"{prefix}{line}" for line in lines))

    def _prefix(self, node: Node) -> str:
        """As torchrun's own for a rank: `[tensor02]:`; nothing where there is one node."""
        return f"[{node.name}]:" if len(self.nodes) > 1 else ""
