"""Follow one run until it ends, across lost connections; used by `launch --follow` and `demo`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import msgspec

from giblet_train.schema.errors import ConfigError
from giblet_tui.errors import NotLetIn, TimedOut
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor.snapshots import LinkState, NodeSnapshot, RunSnapshot
from giblet_tui.monitor.watch import NodeWatch


class RunUpdate(msgspec.Struct, frozen=True):
    """The run's last snapshot, and the state of the connection now."""

    link: LinkState
    sentence: str
    """Why the link is not live."""
    run: RunSnapshot | None


class _Latest:
    """Holder of the newest snapshot; older ones are dropped."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._snapshot: NodeSnapshot | None = None

    def put(self, snapshot: NodeSnapshot) -> None:
        with self._changed:
            self._snapshot = snapshot
            self._changed.notify()

    def take(self, deadline: float | None) -> NodeSnapshot | None:
        """Return the newest snapshot once there is one; None after the deadline."""
        with self._changed:
            # A limit on each wait keeps Ctrl-C working everywhere.
            while self._snapshot is None:
                if deadline is not None and time.monotonic() > deadline:
                    return None
                self._changed.wait(0.5)
            snapshot, self._snapshot = self._snapshot, None
            return snapshot


def follow(node: Node, run_id: str, deadline: float | None = None) -> Iterator[RunUpdate]:
    """Yield the run's state whenever something is new; the last one is its end.

    deadline: `time.monotonic()` at which to give up. Raises TimedOut then, NotLetIn if the node refuses the login,
    ConfigError if it does not have the run.
    """
    latest = _Latest()
    watch = NodeWatch(node, latest.put)
    watch.start()
    try:
        while True:
            snapshot = latest.take(deadline)
            if snapshot is None or (deadline is not None and time.monotonic() > deadline):
                raise TimedOut(f"{run_id} has not ended in time.", f"It continues: giblet status {run_id}")
            if snapshot.link == "refused":
                raise NotLetIn(snapshot.link_sentence)
            run = next((run for run in snapshot.runs if run.run.run_id == run_id), None)
            if run is None and snapshot.link == "live":
                raise ConfigError(f"{node.name} has no run {run_id}.", "`giblet ps -a` lists every run.")
            yield RunUpdate(snapshot.link, snapshot.link_sentence, run)
            if run is not None and not run.health.live:
                return
    finally:
        watch.stop()
