"""A run told at the terminal while it goes on, and judged at its end; Ctrl-C leaves the run alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from giblet_train.schema.errors import FAILED, INTERRUPTED, OK
from giblet_tui.cli.console import next_commands, print_data, print_status
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.follow import follow
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import verdict, verdict_lines
from giblet_tui.reporting.progress_lines import ProgressPrinter


def follow_and_print(node: Node, run_id: str, narrator: ProgressPrinter) -> int:
    """Tell the run on stderr until it has ended, then its verdict on stdout; its result as an exit code."""
    run, link = None, "live"
    with detach_on_interrupt(run_id):
        for seen in follow(node, run_id):
            if seen.link != link and "lost" in (seen.link, link):
                print_status(f"{node.name}: {seen.sentence or 'heard again'}")
            link = seen.link if seen.link != "connecting" else link
            run = seen.run or run
            for line in narrator.new_lines(run) if run else ():
                print_status(line)
    return print_result(run) if run else FAILED


def print_result(run: RunSnapshot) -> int:
    """Show how a run ended and its verdict; 0 only when it ended well and met every criterion that it has."""
    print_status(f"{run.run.run_id} {run.health.state}: {run.health.sentence}")
    judged = verdict(run)
    if judged is not None:
        print_data("\n".join(verdict_lines(judged)))
    met = judged is None or judged.status == "pass"
    return OK if met and run.health.state in ("finished", "stopped") else FAILED


@contextmanager
def detach_on_interrupt(run_id: str) -> Iterator[None]:
    """Ctrl-C in here leaves the run alone, and says so with its id."""
    try:
        yield
    except KeyboardInterrupt:
        print_status(f"\nThe run goes on without this terminal: {run_id}\n{next_commands(run_id, live=True)}")
        raise typer.Exit(INTERRUPTED) from None
