"""The end of a run's log, as far back as asked."""

from __future__ import annotations

from typing import Any

from giblet_train.contract.errors import ConfigError
from giblet_tui.nodes import Node
from giblet_tui.observation import log_lines
from giblet_tui.remote.connecting import connect

LINE_BYTES = 400
"""A generous guess at a line, to know how much of a log's end holds so many of them."""


def log_end(node: Node, run_id: str, n_lines: int) -> tuple[list[str], int]:
    """The last lines of the run's log, made harmless, and the offset after them.

    Raises Unreachable; ConfigError when the node does not have the run.
    """
    lines: list[str] = []
    offset, there = 0, False

    def take(event: dict[str, Any]) -> None:
        nonlocal offset, there
        there = there or "run" in event
        for piece in event.get("run", {}).get("appended", {}).values():
            lines.extend(log_lines(piece))
            offset = piece["mark"]["offset"]

    wanted = {"runs": [run_id], "files": ["train.log"], "log_bytes": max(1, n_lines) * LINE_BYTES}
    with connect(node) as connection:
        connection.call("observe", {"workdir": node.workdir, **wanted}, timeout_s=60.0, on_event=take)
    if not there:
        raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
    return (lines[-n_lines:] if n_lines else []), offset
