"""Links between the nodes of one run: who is present, and the messages they exchange.

A star: the first node listens and the others connect; each end proves that it has the run's key. A node whose link
breaks or stays silent counts as lost: TCP alone would notice only hours later.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import socket
import struct
import threading
import time
from contextlib import closing, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from typing import Any

from giblet_train.schema.records import Rendezvous

ALIVE_EVERY_S = 2.0
SILENCE_S = 20.0
_RETRY_S = 0.3
_MAX_MESSAGE_BYTES = 64 * 1024
_SIOCGIFADDR = 0x8915

Message = dict[str, Any]


class NodeLink:
    """This node's links: to every other node if it is the first one, else to the first."""

    def __init__(self, rendezvous: Rendezvous, node_rank: int, n_nodes: int) -> None:
        """Start to listen or to connect. Raises OSError if the port on the first node is taken."""
        self.inbox: queue.Queue[tuple[int, Message]] = queue.Queue()
        self.own_address = ""
        self._node_rank = node_rank
        self._others = set(range(1, n_nodes)) if node_rank == 0 else {0}
        self._links: dict[int, Connection[Any, Any]] = {}
        self._heard_at: dict[int, float] = {}
        self._key = bytes.fromhex(rendezvous.key)
        self._lock = threading.Lock()
        self._open = True
        if node_rank == 0:
            # At every address: what the others call this machine may be a name that it takes for its own loopback.
            listener = Listener(("0.0.0.0", rendezvous.port), backlog=n_nodes)
            self._begin(self._accept, listener)
        else:
            self._begin(self._connect, (rendezvous.address, rendezvous.port))
        self._begin(self._send_keepalive)

    @property
    def missing(self) -> set[int]:
        """Return the nodes that are not linked yet."""
        return self._others - set(self._links)

    def send(self, message: Message, but: int | None = None) -> None:
        """Send a message to every linked node except `but`, the one it came from."""
        data = json.dumps(message).encode()
        with self._lock:
            for rank, link in self._links.items():
                if rank != but:
                    with suppress(OSError, ValueError):
                        link.send_bytes(data)

    def receive(self, limit_s: float) -> tuple[int, Message] | None:
        """Return the next message and its node, {"gone": why} if it was lost, None if nothing arrived in time."""
        try:
            return self.inbox.get(timeout=limit_s)
        except queue.Empty:
            pass
        for rank, at in self._heard_at.items():
            if time.monotonic() - at > SILENCE_S:
                self._heard_at[rank] = float("inf")
                return rank, {"gone": f"no message from it for {SILENCE_S:.0f} s"}
        return None

    def close(self) -> None:
        """Close every link."""
        self._open = False
        with self._lock:
            for link in self._links.values():
                with suppress(OSError):
                    socket.socket(fileno=os.dup(link.fileno())).shutdown(socket.SHUT_RDWR)

    def _begin(self, work: Any, *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self, listener: Listener) -> None:
        while self.missing and self._open:
            with suppress(OSError):
                self._begin(self._admit, listener.accept())
        listener.close()

    def _admit(self, link: Connection[Any, Any]) -> None:
        """Accept a peer that has the key. Each runs on its own thread, so that a silent port scan blocks nobody."""
        with suppress(AuthenticationError, OSError, EOFError, ValueError):
            deliver_challenge(link, self._key)
            answer_challenge(link, self._key)
            rank = int(json.loads(link.recv_bytes(_MAX_MESSAGE_BYTES))["rank"])
            if rank in self.missing:
                self._link(rank, link)
                return
        link.close()

    def _connect(self, address: tuple[str, int]) -> None:
        while self.missing and self._open:
            try:
                link = Client(address, authkey=self._key)
                link.send_bytes(json.dumps({"rank": self._node_rank}).encode())
            except (OSError, EOFError, AuthenticationError):
                time.sleep(_RETRY_S)
                continue
            self._link(0, link)

    def _link(self, rank: int, link: Connection[Any, Any]) -> None:
        with closing(socket.socket(fileno=os.dup(link.fileno()))) as line:
            self.own_address = line.getsockname()[0]
        self._heard_at[rank] = time.monotonic()
        with self._lock:
            self._links[rank] = link
        self._begin(self._read, rank, link)

    def _read(self, rank: int, link: Connection[Any, Any]) -> None:
        try:
            while True:
                message = json.loads(link.recv_bytes(_MAX_MESSAGE_BYTES))
                self._heard_at[rank] = time.monotonic()
                if message:
                    self.inbox.put((rank, message))
        except (OSError, EOFError, ValueError):
            self._heard_at[rank] = float("inf")
            self.inbox.put((rank, {"gone": "its connection broke"}))

    def _send_keepalive(self) -> None:
        while self._open:
            self.send({})
            time.sleep(ALIVE_EVERY_S)


def free_port() -> int:
    """Return a port of this machine on which nobody listens at the moment."""
    with closing(socket.socket()) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def interface_of(address: str) -> str | None:
    """Return the network interface with an IPv4 address of this machine; None if there is none."""
    if address.startswith("127."):
        return "lo"
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None
