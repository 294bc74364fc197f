"""Watch nodes live, with one connection and one thread each, or look at one once; both yield complete snapshots.

A lost connection is reported at once, retried with growing, jittered pauses, and continued at the exact byte. A node
that refuses the login is not tried again until the user asks for it, because repeated tries may lock the account.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError, GibletError
from giblet_train.schema.health import Health
from giblet_tui.agent import layout
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import Done, Mark, WatchEvent, receive
from giblet_tui.connection.sanitize import sanitize
from giblet_tui.errors import NotLetIn, TimedOut, Unreachable
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache
from giblet_tui.monitor.node_state import NodeState, apply_event, log_lines, to_snapshot
from giblet_tui.monitor.snapshots import LinkState, NodeSnapshot

INTERVAL_S = 0.25
"""Time between two looks of the agent."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSES_S = ((60.0, 1.8), (600.0, 5.0), (float("inf"), 30.0))
"""(time without a connection, longest pause until then): after a short outage data is fresh within seconds."""

FIRST_CONNECTION_S = 2.0
"""A first connection that fails sooner is tried again: a busy sshd drops new ones now and then."""
AGAIN = "Connecting again; the run is not touched by this."
CACHE_EVERY_S = 30.0
OBSERVE_LIMIT_S = 60.0


@dataclass(frozen=True)
class LogChunk:
    """New lines of a run's log."""

    lines: tuple[str, ...] = ()
    offset: int = 0
    """The byte after them."""
    notice: str = ""
    """What happened to the connection."""
    health: Health | None = None
    """The run's health, once it has ended."""


class Pauses:
    """Pauses between tries: doubling from FIRST_PAUSE_S up to LONGEST_PAUSES_S, jittered."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start from the shortest pause again, because a connection was made."""
        self._pause_s = FIRST_PAUSE_S
        self._lost_at: float | None = None

    def next_s(self, now: float) -> float:
        """Return the next pause. now: a monotonic clock."""
        self._lost_at = now if self._lost_at is None else self._lost_at
        longest = next(pause for until, pause in LONGEST_PAUSES_S if now - self._lost_at < until)
        pause = min(self._pause_s, longest)
        self._pause_s = 2 * pause
        return pause * random.uniform(0.75, 1.25)


class NodeWatch:
    """Watcher of one node. on_snapshot is called from its thread, at most once per interval_s."""

    def __init__(self, node: Node, on_snapshot: Callable[[NodeSnapshot], None], interval_s: float = INTERVAL_S) -> None:
        self._node = node
        self._on_snapshot = on_snapshot
        self._interval_s = interval_s
        self._state = NodeState(node.name, is_long_watch=True)
        self._connection: Connection | None = None
        self._stopping = threading.Event()
        self._awake = threading.Event()
        self._cached_at = time.monotonic()
        self._heard_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"watch {node.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, limit_s: float = 3.0) -> None:
        """End the thread and its connection; save the last snapshot in the cache."""
        self._stopping.set()
        self._awake.set()
        connection = self._connection
        if connection is not None:
            connection.close()
        self._thread.join(limit_s)

    def retry(self) -> None:
        """Try again now; after a refused login nothing else does."""
        self._awake.set()

    def _run(self) -> None:
        pauses = Pauses()
        while not self._stopping.is_set():
            self._awake.clear()
            if self._state.now is None:
                self._post("connecting", "")
            try:
                self._follow(pauses)
            except (NotLetIn, ConfigError) as error:
                self._post("refused", f"{error.message} {error.remedy}".strip())
                self._awake.wait()
            except GibletError as error:
                if not self._stopping.is_set():
                    self._post("lost", f"{error.message} {error.remedy}".strip())
                    self._awake.wait(pauses.next_s(time.monotonic()))
            except Exception as error:  # our own bug must not end the watch silently
                self._post("lost", f"giblet failed while watching: {type(error).__name__}: {sanitize(str(error))}")
                self._awake.wait(pauses.next_s(time.monotonic()))
        self._cache()

    def _follow(self, pauses: Pauses) -> None:
        """Apply the node's events until the connection is lost. Raises GibletError then."""
        arguments = {
            "workdir": self._node.workdir,
            "interval_s": self._interval_s,
            "marks": self._state.marks,
            "lab": self._node.lab,
        }
        with connect(self._node) as connection:
            self._connection = connection
            for event in connection.stream("watch", arguments, WatchEvent):
                if self._stopping.is_set():
                    return
                self._state = apply_event(self._state, event, time.time())
                if event.tick is not None:
                    pauses.reset()
                    self._heard_at = time.monotonic()
                    self._post("live", "")

    def _post(self, link: LinkState, sentence: str) -> None:
        elapsed_s = 0.0 if link == "live" else time.monotonic() - self._heard_at
        self._on_snapshot(to_snapshot(self._state, link, sentence, elapsed_s))
        if time.monotonic() - self._cached_at > CACHE_EVERY_S:
            self._cache()

    def _cache(self) -> None:
        self._cached_at = time.monotonic()
        if self._state.now is not None:
            cache.save(to_snapshot(self._state))


def observe_once(node: Node, runs: Sequence[str] | None = None, *, all_users: bool = False) -> NodeSnapshot:
    """Return the node as it is now.

    runs: only these, in full; None: all, of which the newest and the live ones in full. all_users: also the runs of
    other members of the node's `lab:`.

    Raises Unreachable, ConfigError.
    """
    state = NodeState(node.name)

    def take(event: WatchEvent) -> None:
        nonlocal state
        state = apply_event(state, event, time.time())

    group = node.lab if all_users or runs is not None else None
    arguments = {"workdir": node.workdir, "runs": None if runs is None else list(runs), "lab": group}
    with connect(node) as connection:
        connection.call("observe", arguments, Done, timeout_s=OBSERVE_LIMIT_S, on_event=receive(WatchEvent, take))
    return to_snapshot(state)


def follow_log(node: Node, run_id: str, mark: Mark | None = None, last_bytes: int = 64 * 1024) -> Iterator[LogChunk]:
    """Yield the run's log as it grows, from a mark (None: its last `last_bytes`), until the run has ended.

    A lost connection is reported as a notice and retried. The last chunk has the run's health. Raises ConfigError if
    the node has no such run, Unreachable if it was never reached or refuses the login.
    """
    pauses = Pauses()
    state = NodeState(node.name)
    reached = False
    began = time.monotonic()
    while True:
        arguments = {
            "workdir": node.workdir,
            "interval_s": INTERVAL_S,
            "runs": [run_id],
            "lab": node.lab,
            "files": [layout.LOG],
            "log_bytes": last_bytes,
            "marks": {run_id: {layout.LOG: mark} if mark else {}},
        }
        try:
            with connect(node) as connection:
                reached = True
                for event in connection.stream("watch", arguments, WatchEvent):
                    state = apply_event(state, event, time.time())
                    if event.tick is not None:
                        pauses.reset()
                        if (end_sentence := _ended(state, run_id)) is not None:
                            yield LogChunk(offset=mark.offset if mark else 0, health=end_sentence)
                            return
                    for tail in event.run.appended.values() if event.run else ():
                        mark = tail.mark
                        yield LogChunk(tuple(log_lines(tail)), mark.offset)
        except (Unreachable, TimedOut) as error:
            if isinstance(error, NotLetIn) or not (reached or time.monotonic() - began < FIRST_CONNECTION_S):
                raise
            yield LogChunk(offset=mark.offset if mark else 0, notice=f"{error.message} {AGAIN}")
            time.sleep(pauses.next_s(time.monotonic()))


def _ended(state: NodeState, run_id: str) -> Health | None:
    """Return the run's health if it has ended, else None. Raises ConfigError if the node does not have the run."""
    if run_id not in state.runs:
        raise ConfigError(f"{state.node} has no run {run_id}.", "`giblet ps -a` lists every run.")
    health = to_snapshot(replace(state, runs={run_id: state.runs[run_id]})).runs[0].health
    return None if health.live else health
