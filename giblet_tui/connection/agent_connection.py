"""Base class of all transports: each method of a connection is one exchange with an agent."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from giblet_tui.connection.agent_protocol import AgentSession, Pipe
from giblet_tui.connection.protocol import A, Event, FileBytes, decode
from giblet_tui.errors import TimedOut
from giblet_tui.inventory.nodes import Node

logger = logging.getLogger(__name__)

_PIECE_BYTES = 256 * 1024
_TRANSFER_BYTES_PER_S = 20_000
"""Slower than this, a transfer counts as stuck."""


class AgentConnection(ABC):
    """A connection whose methods all run `AGENT_COMMAND`. A transport defines how the command is run."""

    def __init__(self, node: Node) -> None:
        self.node_name = node.name
        self.kept = False
        self._interpreter = node.python or ""

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        kind: type[A],
        *,
        timeout_s: float = 30.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> A:
        with self._dialogue(operation, arguments) as dialogue:
            return decode(_result_of(dialogue, timeout_s, on_event), kind)

    def stream(self, operation: str, arguments: Mapping[str, Any], kind: type[A]) -> Iterator[A]:
        with self._dialogue(operation, arguments) as dialogue:
            for message in dialogue.messages(timeout_s=None):
                if "result" not in message:
                    yield decode(message, kind)

    def put(self, data: bytes | Path, remote_path: str, *, executable: bool = False) -> None:
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.seek(0, io.SEEK_END)
            content.seek(0)
            arguments = {"path": remote_path, "size": size, "sha256": digest, "executable": executable}
            with self._dialogue("receive", arguments) as dialogue:
                for piece in iter(lambda: content.read(_PIECE_BYTES), b""):
                    dialogue.write(piece)
                _result_of(dialogue, 30.0 + size / _TRANSFER_BYTES_PER_S, None)

    def get(self, remote_path: str, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        for piece in self.stream("read", {"path": remote_path, "offset": offset, "limit": limit}, FileBytes):
            yield piece.data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.kept:
            self.close()

    @property
    @abstractmethod
    def alive(self) -> bool:
        """Return True if the connection can probably carry another command."""

    @abstractmethod
    def interactive(self, argv: list[str]) -> int: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _open(self) -> Pipe:
        """Start `AGENT_COMMAND` on the node. Raises Unreachable."""

    @abstractmethod
    def _check_link(self) -> None:
        """Raise Unreachable when the other end does not answer."""

    @contextmanager
    def _dialogue(self, operation: str, arguments: Mapping[str, Any]) -> Iterator[AgentSession]:
        began = time.monotonic()
        dialogue = AgentSession(self._open(), self.node_name, self._check_link)
        try:
            dialogue.begin(self._interpreter, operation, arguments)
            yield dialogue
        finally:
            dialogue.close()
            logger.debug("%s: %s, %.2f s", self.node_name, operation, time.monotonic() - began)


def _result_of(dialogue: AgentSession, timeout_s: float, on_event: Callable[[Event], None] | None) -> dict[str, Any]:
    for message in dialogue.messages(timeout_s):
        if "result" in message:
            result: dict[str, Any] = message["result"]
            return result
        if on_event is not None:
            on_event(message)
    raise TimedOut("The node gave no answer.")
