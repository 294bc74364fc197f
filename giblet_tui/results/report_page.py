"""Get the HTML report of a run: the one written at its end, otherwise that of an evaluation on its node."""

from __future__ import annotations

from collections.abc import Callable

from giblet_train.schema.errors import GibletError, RunFailed
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import NodeFacts, RunSnapshot
from giblet_tui.results import pull, remote_evaluation
from giblet_tui.results.remote_evaluation import EvaluationRequest

PAGE = "report.html"


def fetch_page(run: RunSnapshot, facts: NodeFacts, node: Node, report: Callable[[str], None]) -> bytes:
    """Return the page. Without one, the run's best checkpoint is evaluated first, as `giblet evaluate` does.

    Raises as `remote_evaluation`, RunFailed if the evaluation fails.
    """
    with connect(node) as connection:
        page = _read(connection, pull.remote_file(node, run.run.run_id, f"report/{PAGE}"))
        if page is not None:
            return page
        engine = remote_evaluation.engine_of(run, node, connection, report)
    job = remote_evaluation.plan(EvaluationRequest(verb="evaluate"), [run], node, engine)
    report(f"{run.run.run_id} has no report yet; its best checkpoint is evaluated first.")
    remote_evaluation.refuse_without_memory(run, facts)
    result = remote_evaluation.wait_for(job, report)
    if result.code != 0:
        raise remote_evaluation.failure(job, result.code) or RunFailed(
            f"The evaluation of {run.run.run_id} failed; its last lines are above.", f"giblet evaluate {run.run.run_id}"
        )
    with connect(node) as connection:
        page = _read(connection, f"{result.out}/{PAGE}")
    if page is None:
        raise RunFailed(
            f"The evaluation of {run.run.run_id} wrote no {PAGE}: its version of giblet is older than this command.",
            f"giblet setup {node.name}",
        )
    return page


def _read(connection: Connection, remote: str) -> bytes | None:
    """Return a file of the node; None if it cannot be read. Raises Unreachable and TimedOut."""
    try:
        return b"".join(connection.get(remote))
    except (Unreachable, TimedOut):
        raise
    except GibletError:
        return None
