"""Print the progress of a live run, then its verdict; Ctrl-C leaves the run alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from giblet_train.schema.errors import FAILED, INTERRUPTED, OK
from giblet_tui.cli.console import next_commands, print_data, print_status
from giblet_tui.cli.parameters import Exit
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.follow import follow
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import verdict, verdict_lines
from giblet_tui.reporting.progress_lines import ProgressPrinter


def follow_and_print(node: Node, run_id: str, progress: ProgressPrinter) -> int:
    """Print progress on stderr until the run ends, then the verdict on stdout; return the run's exit code."""
    run, link = None, "live"
    with detach_on_interrupt(run_id):
        for update in follow(node, run_id):
            if update.link != link and "lost" in (update.link, link):
                print_status(f"{node.name}: {update.sentence or 'connected again'}")
            link = update.link if update.link != "connecting" else link
            run = update.run or run
            for line in progress.new_lines(run) if run else ():
                print_status(line)
    return print_result(run) if run else FAILED


def print_result(run: RunSnapshot) -> int:
    """Print how a run ended and its verdict; return 0 only if it ended well and met all its criteria."""
    print_status(f"{run.run.run_id} {run.health.state}: {run.health.sentence}")
    run_verdict = verdict(run)
    if run_verdict is not None:
        print_data("\n".join(verdict_lines(run_verdict, run.health)))
    return result_code(run)


def result_code(run: RunSnapshot) -> int:
    """Return 0 only if a run ended well and met all its criteria."""
    run_verdict = verdict(run)
    met = run_verdict is None or run_verdict.status == "pass"
    return OK if met and run.health.state in ("finished", "stopped", "ended") else FAILED


@contextmanager
def detach_on_interrupt(run_id: str) -> Iterator[None]:
    """Make Ctrl-C leave the run alone and print how to return to it."""
    try:
        yield
    except KeyboardInterrupt:
        print_status(f"\nThe run continues without this terminal: {run_id}\n{next_commands(run_id, live=True)}")
        raise Exit(INTERRUPTED) from None
