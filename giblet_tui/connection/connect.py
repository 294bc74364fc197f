"""Opens a connection to a node by its transport, and shares one connection per node within a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from giblet_tui.connection.agent_connection import AgentConnection
    from giblet_tui.connection.base import Connection
    from giblet_tui.inventory.nodes import Node

_shared_connections: dict[str, AgentConnection] | None = None
_locks: dict[str, threading.Lock] = {}
_opening = threading.Lock()


def connect(node: Node) -> Connection:
    """Return a connection to a node; within `shared()` the one that is already open.

    Raises Unreachable with the remedy, ConfigError for a bad host name.
    """
    if _shared_connections is None:
        return _open(node)
    with _opening:
        lock = _locks.setdefault(node.name, threading.Lock())
    with lock:
        connection = _shared_connections.get(node.name)
        if connection is None or not connection.alive:
            connection = _shared_connections[node.name] = _open(node)
            connection.kept = True
        return connection


@contextmanager
def shared() -> Iterator[None]:
    """Share one connection per node in this block; they outlive the blocks that use them and are closed at its end."""
    global _shared_connections
    _shared_connections = {}
    try:
        yield
    finally:
        unshare()


def unshare() -> None:
    """Close the shared connections. From now on every `connect` opens its own, for threads that never end."""
    global _shared_connections
    connections, _shared_connections = _shared_connections or {}, None
    for connection in connections.values():
        connection.close()


def _open(node: Node) -> AgentConnection:
    import logging  # a tenth of the start of commands that open no connection

    began = time.monotonic()
    connection = _connection_to(node)
    logging.getLogger(__name__).debug(
        "%s: connected by %s, %.2f s", node.name, node.transport, time.monotonic() - began
    )
    return connection


def _connection_to(node: Node) -> AgentConnection:
    if node.transport == "local":
        from giblet_tui.connection.local import LocalConnection

        return LocalConnection(node)
    if node.transport == "openssh":
        from giblet_tui.connection.openssh import OpenSSHConnection

        return OpenSSHConnection(node)
    from giblet_tui.connection.transport_choice import connect_by_ssh

    return connect_by_ssh(node)
