"""Opening a way to a node by its transport, and sharing one connection a node between all that a process does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from giblet_tui.connection.agent_connection import AgentConnection
    from giblet_tui.connection.base import Connection
    from giblet_tui.inventory.nodes import Node

_kept: dict[str, AgentConnection] | None = None
_locks: dict[str, threading.Lock] = {}
_opening = threading.Lock()


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


def _open(node: Node) -> AgentConnection:
    if node.transport == "local":
        from giblet_tui.connection.local import LocalConnection

        return LocalConnection(node)
    if node.transport == "openssh":
        from giblet_tui.connection.openssh import OpenSSHConnection

        return OpenSSHConnection(node)
    from giblet_tui.connection.ssh import SSHConnection

    return SSHConnection(node)
