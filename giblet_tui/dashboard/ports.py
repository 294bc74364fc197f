"""What the dashboard needs from outside: where snapshots come from, and what its keys may cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from giblet_tui.fleet import NodeSnapshot


class Source(Protocol):
    """Observes nodes on threads of its own."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Begin; call `post` from any thread whenever something about a node is new, its link included."""

    def close(self) -> None:
        """End all observation; `post` is not called afterwards."""


class Actions(Protocol):
    """What a key may cause. The command line's verbs call the same functions.

    Each call may take minutes and is made on a worker thread; each raises GibletError, which the dashboard shows.
    """

    def stop(self, run_id: str, say: Callable[[str], None]) -> str:
        """Stop a run, gracefully first, and prove it. say: told each stage. Returns what was proved, as a sentence."""
