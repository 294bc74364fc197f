"""Servers that stall at one stage of a connection, and how giblet's own client ends it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from giblet_train.schema.errors import GibletError
from giblet_tui.connection import agent_protocol, ssh, ssh_auth, ssh_config
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import RunIds, WatchEvent
from giblet_tui.inventory.nodes import Node
from tests.cluster.nodes import Cluster, LoopbackNode, silent_server, wait_until

STAGES = ("accept", "banner", "key exchange", "login", "channel", "first answer", "middle of an answer", "sent file")
_THREADS_LIMIT_S = 5.0


class Stalled(NamedTuple):
    """How the call to a server that stalled ended."""

    sentence: str
    seconds: float
    deadline_s: float
    threads_left: int

    @property
    def is_in_time(self) -> bool:
        """Return True if it ended by a named timeout, soon after its deadline, and left no thread."""
        return bool(self.sentence) and self.seconds <= self.deadline_s + 1.0 and not self.threads_left


def stall(cluster: Cluster, node: LoopbackNode, stage: str) -> Stalled:
    """Call a server that stalls at a stage."""
    threads_before = 0
    began = time.monotonic()
    sentence = ""
    try:
        with _stalling(cluster, node, stage) as target:
            threads_before = threading.active_count()
            began = time.monotonic()
            try:
                _call(target, node, stage)
            except GibletError as error:
                sentence = error.message
            seconds = time.monotonic() - began
    finally:
        node.signal_sessions(signal.SIGCONT)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: threading.active_count() <= threads_before, _THREADS_LIMIT_S, "the end of its threads")
    return Stalled(sentence, seconds, _deadline_s(stage), max(0, threading.active_count() - threads_before))


def _deadline_s(stage: str) -> float:
    if stage == "accept":
        return ssh_config.CONNECT_LIMIT_S
    if stage in ("banner", "key exchange"):
        return ssh.HANDSHAKE_LIMIT_S
    if stage == "login":
        return ssh_auth.LIMIT_S
    if stage == "first answer":
        return agent_protocol.START_LIMIT_S
    return ssh.CHANNEL_LIMIT_S if stage in ("channel", "sent file") else 3 * ssh.PROBE_LIMIT_S


def _call(target: Node, node: LoopbackNode, stage: str) -> None:
    with connect(target) as connection:
        if stage == "channel":
            node.signal_sessions(signal.SIGSTOP)
        if stage == "sent file":
            connection.call("runs", {"workdir": "~/giblet"}, RunIds)
            node.signal_sessions(signal.SIGSTOP)
            connection.put(b"x" * 1_000_000, f"{node.home}/sent")
        for _ in connection.stream("watch", {"workdir": "~/giblet", "interval_s": 0.2}, WatchEvent):
            if stage != "middle of an answer":
                return
            node.signal_sessions(signal.SIGSTOP)


@contextlib.contextmanager
def _stalling(cluster: Cluster, node: LoopbackNode, stage: str) -> Iterator[Node]:
    """Yield a node that stalls at a stage."""
    name = f"stall-{stage.replace(' ', '-')}-{time.monotonic_ns()}"
    if stage == "accept":
        with _full_queue() as port:
            cluster.add_host(name, "127.0.0.1", port)
            yield cluster.node(name, node.home)
    elif stage in ("banner", "key exchange"):
        with silent_server(b"" if stage == "banner" else b"SSH-2.0-OpenSSH_9.2\r\n") as port:
            cluster.add_host(name, "127.0.0.1", port)
            yield cluster.node(name, node.home)
    elif stage in ("login", "first answer"):
        settings = ("AuthorizedKeysCommand /bin/sleep 300", "AuthorizedKeysCommandUser root")
        asleep = settings if stage == "login" else ("ForceCommand exec sleep 300",)
        stalling = LoopbackNode(cluster, name, node.address, *asleep)
        if stage == "login":
            (stalling.directory / "authorized_keys").write_text("")  # so that the command is asked
        try:
            yield stalling.node()
        finally:
            stalling.close()
    else:
        yield node.node()


@contextlib.contextmanager
def _full_queue() -> Iterator[int]:
    """Yield a port whose queue of connections is full, so that the kernel answers no further one."""
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = clients.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address[1]
