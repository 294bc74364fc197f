"""What the dashboard needs from outside: where snapshots come from, and what its keys may cause."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from giblet_tui.monitor.snapshots import NodeSnapshot

How = Literal["show", "terminal", "copy"]


class SnapshotSource(Protocol):
    """Observes nodes on threads of its own."""

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        """Begin; call `post` from any thread whenever something about a node is new, its link included."""

    def close(self) -> None:
        """End all observation; `post` is not called afterwards."""


@dataclass(frozen=True)
class Wish:
    """A launch as a person asks for it. gpus: as `--gpus` takes them; settings: each as `--set` takes it."""

    node: str
    config: str
    gpus: str | None = None
    settings: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PaletteCommand:
    """A verb of the command line with its arguments.

    how: `show` what it prints; give it the `terminal` until it ends; or `copy` it, for a shell to fill in or to run.
    """

    words: tuple[str, ...]
    about: str
    how: How

    @property
    def command(self) -> str:
        """What one would type."""
        return shlex.join(("giblet", *self.words))


class DashboardActions(Protocol):
    """What a key may cause. The command line's verbs call the same functions.

    Each call may take minutes and is made on a worker thread; each raises GibletError, which the dashboard shows.
    """

    def stop(self, run_id: str, say: Callable[[str], None]) -> str:
        """Stop a run, gracefully first, and prove it. say: told each stage. Returns what was proved, as a sentence."""

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        """Acknowledge every standing alert of a run, or snooze them for so long. Returns what was done."""

    def verbs(self, run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
        """All verbs, about this run and node. Answers at once."""

    def output(self, words: Sequence[str]) -> Sequence[str]:
        """What a verb that only reads prints, its complaint included."""

    def argv(self, words: Sequence[str]) -> Sequence[str]:
        """The command line of a verb that takes the terminal."""

    def configs(self) -> Sequence[str]:
        """The names of all configurations. Answers at once."""

    def changes(self, wish: Wish) -> Sequence[str]:
        """What is different from the base configuration and from the last run of that name; asks no node."""

    def dry_run(self, wish: Wish) -> Sequence[str]:
        """All that a launch would do, in lines, or why the node refuses; starts nothing."""

    def launch(self, wish: Wish, say: Callable[[str], None]) -> str:
        """Start the run. say: told each stage. Returns its id."""
