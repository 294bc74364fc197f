"""The seam to a node: one connection, few verbs, the same agent behind each of them.

A connection runs one constant command on the node, `program.AGENT_COMMAND`, and sends everything else as data on its
standard input: the interpreter to use, the agent's own source, the request. The node's login shell never sees a value.

The agent is the modules named in `program.AGENT_MODULES`. They run on the node, where nothing is installed: standard
library only, Python >= 3.8, and they may import one another by their full names (`from giblet_tui.remote.agent import
AgentRefusal`), since the loader registers them under those names. Each may offer operations::

    def start(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
        emit({"step": "..."})                                 # progress, as often as wanted
        raise AgentRefusal(sentence, remedy, exit_code)       # or: return the result

    OPERATIONS: Dict[str, Operation] = {"start": start}
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from giblet_tui.nodes import Node
    from giblet_tui.remote.agentlink import AgentLink

Event = dict[str, Any]

_kept: dict[str, AgentLink] | None = None
_locks: dict[str, threading.Lock] = {}
_opening = threading.Lock()


class Connection(Protocol):
    """A way to one node. Safe for at most four threads at once; a context manager that closes it."""

    node_name: str

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float = 30.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> dict[str, Any]:
        """Do one operation on the node: its progress goes to `on_event`, its result is returned.

        Raises Unreachable (the link), TimedOut (no result within timeout_s; the node may still be at work), and
        GibletError with the node's own sentence, remedy and exit code when the agent refuses.
        """
        ...

    def stream(self, operation: str, arguments: Mapping[str, Any]) -> Iterator[Event]:
        """The events of an operation that goes on until the iterator is closed. Raises as `call` does."""
        ...

    def put(self, data: bytes | Path, remote_path: str, *, executable: bool = False) -> None:
        """Write a file on the node: aside, compared by SHA-256, then renamed into place; 0600, or 0700 if executable.

        remote_path: absolute, or beginning with `~/`. Missing folders are made (0700).
        """
        ...

    def get(self, remote_path: str, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """The bytes of a file on the node from `offset`, at most `limit` of them, in pieces."""
        ...

    def interactive(self, argv: list[str]) -> int:
        """Run a command of the node in a real terminal, joined to this one; its exit status."""
        ...

    def close(self) -> None:
        """End what the connection runs on the node but runs themselves, and close it. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def connect(node: Node) -> Connection:
    """A connection to a node, by its transport: within `shared()` the one that is open already.

    Raises Unreachable with the remedy, ConfigError for a bad host name.
    """
    if _kept is None:
        return _open(node)
    with _opening:
        lock = _locks.setdefault(node.name, threading.Lock())
    with lock:
        known = _kept.get(node.name)
        if known is None or not known.alive:
            known = _kept[node.name] = _open(node)
            known.kept = True
        return known


@contextmanager
def shared() -> Iterator[None]:
    """In here each node has one connection, which outlives the blocks that use it; all are closed in the end."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        unshare()


def unshare() -> None:
    """Close what is shared; from now on every `connect` opens its own, for use by threads that never end."""
    global _kept
    kept, _kept = _kept or {}, None
    for connection in kept.values():
        connection.close()


def _open(node: Node) -> AgentLink:
    if node.transport == "local":
        from giblet_tui.remote.local import LocalConnection

        return LocalConnection(node)
    if node.transport == "openssh":
        from giblet_tui.remote.openssh import OpenSSHConnection

        return OpenSSHConnection(node)
    from giblet_tui.remote.ssh import SSHConnection

    return SSHConnection(node)
