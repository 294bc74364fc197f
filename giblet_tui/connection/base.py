"""The interface to a node: one connection, few methods, the same agent behind each of them.

A connection runs one constant command on the node, `agent_bundle.AGENT_COMMAND`, and sends everything else as data on
its standard input: the interpreter to use, the agent's source, the request. The node's login shell never sees a value.

The agent consists of the modules in `agent_bundle.AGENT_MODULES`. They run on the node, where nothing is installed:
standard library only, Python >= 3.8. They may import one another by their full names (`from giblet_tui.agent.main
import AgentRefusal`), because the loader registers them under those names. Each may offer operations::

    def start(arguments: dict[str, Any], emit: Emit) -> dict[str, Any]:
        emit({"step": "..."})                                 # progress, any number of times
        raise AgentRefusal(sentence, remedy, exit_code)       # or: return the result

    OPERATIONS: Dict[str, Operation] = {"start": start}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from giblet_tui.connection.protocol import A, Event


class Connection(Protocol):
    """A connection to one node. Safe for at most four threads at once; a context manager that closes it."""

    node_name: str

    def call(
        self,
        operation: str,
        arguments: Mapping[str, Any],
        kind: type[A],
        *,
        timeout_s: float = 30.0,
        on_event: Callable[[Event], None] | None = None,
    ) -> A:
        """Run one operation on the node and return its answer as a struct of `protocol`.

        Args:
            on_event: receives each event as the node sent it; `protocol.receive` and `protocol.progress_to` decode it.

        Raises Unreachable (the link), TimedOut (no result within timeout_s; the node may still be at work), and
        GibletError with the node's own sentence, remedy and exit code if the agent refuses.
        """
        ...

    def stream(self, operation: str, arguments: Mapping[str, Any], kind: type[A]) -> Iterator[A]:
        """Yield the events of an operation that continues until the iterator is closed. Raises as `call` does."""
        ...

    def put(self, data: bytes | Path, remote_path: str, *, executable: bool = False) -> None:
        """Write a file on the node: aside, compared by SHA-256, then renamed into place; 0600, or 0700 if executable.

        remote_path: absolute, or beginning with `~/`. Missing folders are made (0700).
        """
        ...

    def get(self, remote_path: str, *, offset: int = 0, limit: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file on the node from `offset`, at most `limit` of them, in pieces."""
        ...

    def interactive(self, argv: list[str]) -> int:
        """Run a command of the node in a real terminal, joined to this one; its exit status."""
        ...

    def close(self) -> None:
        """End what the connection runs on the node except training runs, and close it. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
