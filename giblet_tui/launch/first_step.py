"""Wait until a launched run has made its first real step, or explain why there was none."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence

from giblet_train.schema.errors import RunFailed
from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import WatchEvent
from giblet_tui.errors import TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.node_state import NodeState, apply_event, to_snapshot
from giblet_tui.monitor.snapshots import RunSnapshot

FIRST_STEP_LIMIT_S = 600.0
"""How long the first step may take once the data is loaded."""
COMMAND_LIMIT_S = 8.0
"""How long a command is watched for a failure at its start, unless it shows a loss before."""
LOG_LINES_SHOWN = 12
_INTERVAL_S = 0.25
_RANK_PREFIX = re.compile(r"^\[default\d+\]:")
"""torchrun puts this before each line that a rank prints."""


def await_first_step(
    node: Node,
    connection: Connection,
    run_id: str,
    on_snapshot: Callable[[RunSnapshot], None],
    limit_s: float = FIRST_STEP_LIMIT_S,
) -> RunSnapshot:
    """Watch a run until it has made a step, finished without one, or waits for GPUs; return its last snapshot.

    A command of the user's need not show any step: it is watched for some seconds.

    Args:
        on_snapshot: called with every new snapshot.
        limit_s: counts from the end of `loading`, which may build a store for hours.

    Raises RunFailed with the cause if the run ends otherwise; TimedOut and Unreachable leave the run alone.
    """
    state = NodeState(node.name)
    loading_until = time.monotonic()
    watch_until = float("inf")
    arguments = {"workdir": node.workdir, "interval_s": _INTERVAL_S, "runs": [run_id]}
    try:
        for event in connection.stream("watch", arguments, WatchEvent):
            state = apply_event(state, event, time.time())
            run = to_snapshot(state).runs[0] if event.tick is not None and state.runs else None
            if run is None:
                continue
            on_snapshot(run)
            if run.steps_since_launch or run.health.state in ("finished", "waiting"):
                return run
            if not run.health.live:
                raise failure(run)
            if run.run.command is not None and run.heartbeat is not None:
                watch_until = min(watch_until, time.monotonic() + COMMAND_LIMIT_S)
                if run.epochs or time.monotonic() >= watch_until:
                    return run
                continue
            if run.heartbeat is None or run.heartbeat.state == "loading":
                loading_until = time.monotonic()
            if run.health.state == "stalled" or time.monotonic() - loading_until > limit_s:
                raise TimedOut(
                    f"{run_id} has made no step yet: {run.health.sentence.rstrip('.')}.", f"giblet logs {run_id} -f"
                )
    except Unreachable as error:
        raise type(error)(error.message, f"The run continues. {error.remedy} giblet status {run_id}") from None
    raise Unreachable(f"{node.name} ended the watch of {run_id}.", f"The run continues. giblet status {run_id}")


def failure(run: RunSnapshot) -> RunFailed:
    """Return why a run ended before its first step, with the remedy it printed, else the end of its log."""
    log = [line for line in run.log_tail if line.strip()]
    lines = _printed_remedy(log) or log[-LOG_LINES_SHOWN:]
    outcome = "was stopped" if run.health.state == "stopped" else run.health.state
    when = " before its first step"
    if run.run.command is not None:
        when = f" after epoch {run.epochs[-1].epoch}" if run.epochs else " at its start"
    sentence = f"{run.run.run_id} {outcome}{when}: {run.health.sentence.rstrip('.')}."
    return RunFailed(sentence, "\n  ".join([*lines, f"giblet logs {run.run.run_id}"]))


def _printed_remedy(log: Sequence[str]) -> list[str]:
    """Return the indented lines below the engine's last error; what torchrun prints after it adds nothing."""
    lines = [_RANK_PREFIX.sub("", line) for line in log]
    errors = [i for i, line in enumerate(lines) if line.startswith("giblet: ")]
    below = lines[errors[-1] + 1 :] if errors else []
    return [line.strip() for line in itertools.takewhile(lambda line: line.startswith("  "), below)]
