"""`giblet logs`: print a run's log; with -f until the run ends, through lost connections."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Annotated

from giblet_train.schema.errors import INTERRUPTED, OK, ConfigError, GibletError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import print_data, print_error, print_status, show_json
from giblet_tui.cli.parameters import Exit, Option
from giblet_tui.cli.since import moment
from giblet_tui.connection.protocol import Mark
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.logs import follow_logs, log_end
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting import SCHEMA

DEFAULT_LINES, MOST_LINES = 200, 100_000
EPOCH_LINE = re.compile(r"Epoch\s+(\d+)/\d+")


@command(
    app,
    "logs",
    "giblet logs @last -f",
    "giblet logs demo -n 20",
    "giblet logs @last --since 30m",
    "giblet logs @last --node tensor02 -f",
)
def logs(
    name: RunName,
    follow: Annotated[bool, Option("-f", "--follow", help="Follow the log until the run ends.")] = False,
    n_lines: Annotated[
        int | None, Option("-n", "--lines", min=0, help="Number of lines from the end; default: 200.")
    ] = None,
    since: Annotated[
        str | None, Option(metavar="TIME", help="From the epoch of that time on: 30m, 2h or 2026-11-20.")
    ] = None,
    on: Annotated[
        str | None, Option("--node", metavar="NODE", help="For a run on several nodes: only this one.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the end of a run's log. With -f, follow it through lost connections until the run has ended.

    For a run on several nodes, each line begins with the node's name. With -f the exit code is 1 if the run failed or
    died. Ctrl-C does not stop the run.

    Lines of a log have no time of their own. --since starts behind the line of the last epoch that ended before the
    time, among the last --lines lines (with --since: 100,000).
    """
    start = None if since is None else moment(since, time.time())
    node, run_id = find_run.locate(name, print_status, all_users=True)
    ended_before = 0 if start is None else _epochs_before(find_run.fetch_run(node, run_id), start)
    n_lines = n_lines if n_lines is not None else DEFAULT_LINES if start is None else MOST_LINES
    printer = _LogPrinter(run_id, _select_nodes(node, run_id, on), json, ended_before)
    try:
        parts = printer.ends(n_lines)
        if follow:
            raise Exit(printer.follow(parts))
    except KeyboardInterrupt:
        print_status(f"\nThe run continues. To stop it: giblet stop {run_id}")
        raise Exit(INTERRUPTED) from None


def _epochs_before(run: RunSnapshot, start: float) -> int:
    """Return the number of the last epoch that ended before a time; 0 if none did. Raises ConfigError."""
    if not run.epochs and run.run.launched_at < start:
        raise ConfigError(
            f"{run.run.run_id} has recorded no epoch, so the times of its lines are not known.",
            f"giblet logs {run.run.run_id} -n 500",
        )
    return max((epoch.epoch for epoch in run.epochs if epoch.at < start), default=0)


def lines_after_epoch(lines: Sequence[str], epoch: int) -> Sequence[str]:
    """Return the lines behind the last one of this epoch or an earlier one; all of them if there is none."""
    for place in range(len(lines) - 1, -1, -1):
        match = EPOCH_LINE.match(lines[place])
        if match and int(match[1]) <= epoch:
            return lines[place + 1 :]
    return lines


def _select_nodes(node: Node, run_id: str, on: str | None) -> list[Node]:
    """Return the nodes whose logs are printed, the first node of the run first. Raises ConfigError."""
    run = cache.load().run(run_id)
    run_nodes = find_run.all_nodes(run) if run is not None else [node]
    if on is None:
        return run_nodes
    nodes_of_name = [part for part in run_nodes if part.name == on]
    if not nodes_of_name:
        raise ConfigError(
            f"{run_id} does not run on {on}.", f"It runs on {', '.join(part.name for part in run_nodes)}."
        )
    return nodes_of_name


class _LogPrinter:
    """Prints the logs of a run on one or several nodes."""

    def __init__(self, run_id: str, nodes: Sequence[Node], json: bool, ended_before: int) -> None:
        """ended_before: the last epoch whose lines are left out; 0 for none."""
        self.run_id, self.nodes, self.json = run_id, nodes, json
        self._ended_before = ended_before

    def ends(self, n_lines: int) -> list[tuple[Node, Mark]]:
        """Print the end of each log; return the nodes that answered, each with the mark after its last printed line.

        Raises GibletError if no node answered.
        """
        parts: list[tuple[Node, Mark]] = []
        faults: list[GibletError] = []
        for node in self.nodes:
            try:
                lines, mark = log_end(node, self.run_id, n_lines)
            except GibletError as error:
                faults.append(error)
                continue
            self._lines(node, lines_after_epoch(lines, self._ended_before), mark.offset)
            parts.append((node, mark))
        if not parts:
            raise faults[0]
        for fault in faults:
            print_error(fault)
        return parts

    def follow(self, parts: Sequence[tuple[Node, Mark]]) -> int:
        """Print new lines until the run has ended; return its exit code."""
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
            chunk = {"schema": SCHEMA, "run_id": self.run_id, "node": node.name, "offset": offset, "lines": list(lines)}
            show_json(chunk)
        elif lines:
            prefix = self._prefix(node)
            print_data("\n".join(f"{prefix}{line}" for line in lines))

    def _prefix(self, node: Node) -> str:
        """Return `[tensor02]:`, as torchrun prefixes ranks; "" for a run on one node."""
        return f"[{node.name}]:" if len(self.nodes) > 1 else ""
