"""Read a run's log: its end, and how it grows, on every node of the run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence

from giblet_train.diagnosis.log_reader.end_scan import ErrorLine, FailedRank, LogEnd
from giblet_train.diagnosis.log_reader.reader import TrainingLog
from giblet_train.schema.errors import ConfigError, GibletError
from giblet_tui.agent import layout
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import Done, LogEndAnswer, LogLineAnswer, Mark, WatchEvent, receive
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.node_state import FROM_THE_START, log_lines
from giblet_tui.monitor.watch import LogChunk, follow_log

LINE_BYTES = 400
"""A generous line length, used to decide how many bytes of the log's end hold N lines."""

SCAN_LIMIT_S = 120.0
"""Time for a node to scan a whole log."""

LAST_WORDS_S = 15.0
"""How long the other nodes are followed after the first has ended; by then they have ended too or are cut off."""


def log_end(node: Node, run_id: str, n_lines: int) -> tuple[list[str], Mark]:
    """Return the last lines of the run's log, sanitised, and the mark after them, where `follow_log` continues.

    Raises Unreachable; ConfigError if the node does not have the run.
    """
    lines: list[str] = []
    mark, there = FROM_THE_START, False

    def take(event: WatchEvent) -> None:
        nonlocal mark, there
        there = there or event.run is not None
        for tail in event.run.appended.values() if event.run else ():
            lines.extend(log_lines(tail))
            mark = tail.mark

    selection = {"runs": [run_id], "files": [layout.LOG], "log_bytes": max(1, n_lines) * LINE_BYTES}
    with connect(node) as connection:
        arguments = {"workdir": node.workdir, "lab": node.lab, **selection}
        connection.call("observe", arguments, Done, timeout_s=60.0, on_event=receive(WatchEvent, take))
    if not there:
        raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
    return (lines[-n_lines:] if n_lines else []), mark


def fetch_log_end(node: Node, run_id: str) -> TrainingLog:
    """Return how a run ended, from its whole log, which is scanned on the node. Raises Unreachable and refusals."""
    arguments = {"workdir": node.workdir, "run_id": run_id, "lab": node.lab}
    with connect(node) as connection:
        answer = connection.call("log_end", arguments, LogEndAnswer, timeout_s=SCAN_LIMIT_S)

    def line(answer: LogLineAnswer) -> ErrorLine:
        return ErrorLine(answer.text, answer.rank, answer.at, answer.details, answer.place, answer.later, answer.before)

    failed_rank = answer.failed
    end = LogEnd(
        causes={cause.cause: line(cause.line) for cause in answer.causes},
        errors=tuple(map(line, answer.errors)),
        echoes=tuple(map(line, answer.echoes)),
        tail=answer.tail,
        failed=FailedRank(failed_rank.rank, failed_rank.exit_code, failed_rank.host, failed_rank.at)
        if failed_rank
        else None,
        timed_out_ranks=answer.timed_out_ranks,
        missing_ranks=answer.missing_ranks,
        statement=answer.statement,
        statement_line=answer.statement_line,
        killed=answer.killed,
        complaint=line(answer.complaint) if answer.complaint is not None else None,
        remedy=answer.remedy,
    )
    return TrainingLog(end=end)


def follow_logs(run_id: str, parts: Sequence[tuple[Node, Mark]]) -> Iterator[tuple[Node, LogChunk]]:
    """Yield the logs of a run on its nodes as they grow, each from its mark, until it has ended on all of them.

    The last chunk is the first node's, with the run's health. Raises what `follow_log` raises for the first node; for
    the other nodes that is a notice.
    """
    if len(parts) == 1:
        yield from ((parts[0][0], chunk) for chunk in follow_log(parts[0][0], run_id, parts[0][1]))
        return
    chunks: queue.Queue[tuple[int, LogChunk | GibletError | None]] = queue.Queue()
    for place, (node, mark) in enumerate(parts):
        threading.Thread(target=_follow, args=(node, run_id, mark, place, chunks), daemon=True).start()
    open_parts = set(range(len(parts)))
    last: LogChunk | None = None
    deadline = float("inf")
    while open_parts and time.monotonic() < deadline:
        try:
            place, message = chunks.get(timeout=0.5)
        except queue.Empty:
            continue
        if isinstance(message, LogChunk) and message.health is None:
            yield parts[place][0], message
        elif isinstance(message, LogChunk) and place == 0:
            last, deadline = message, time.monotonic() + LAST_WORDS_S
        elif isinstance(message, GibletError):
            if place == 0:
                raise message
            yield parts[place][0], LogChunk(notice=message.message)
        elif message is None:
            open_parts.discard(place)
    for place in sorted(open_parts):
        yield parts[place][0], LogChunk(notice="Its last lines could not be read.")
    if last is not None:
        yield parts[0][0], last


def _follow(
    node: Node, run_id: str, mark: Mark, place: int, chunks: queue.Queue[tuple[int, LogChunk | GibletError | None]]
) -> None:
    """Put each chunk of one node's log into the queue, then the error that ended it, if any, then None."""
    try:
        for chunk in follow_log(node, run_id, mark):
            chunks.put((place, chunk))
    except GibletError as error:
        chunks.put((place, error))
    finally:
        chunks.put((place, None))
