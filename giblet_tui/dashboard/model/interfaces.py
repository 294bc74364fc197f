"""What the dashboard needs from outside: a source of snapshots, and the actions of its keys."""

from __future__ import annotations

import shlex
import threading
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
class LaunchChoice:
    """Values of the launch form."""

    node: str
    config: str = ""
    """Name of a configuration; empty for a command."""
    gpus: str | None = None
    """As `--gpus` takes them."""
    settings: tuple[str, ...] = ()
    """Each as `--set` takes it."""
    note: str = ""
    resume: str = ""
    """As `--resume` takes it; empty for a new run."""
    session: str = ""
    """As `--session` takes it; empty for the node's preference."""
    when_free: bool = False
    """Whether the run waits on the node for its GPUs."""
    command: tuple[str, ...] = ()
    """Words of a command that runs in place of a configuration."""
    folder: str = ""
    """Directory of the node in which the command starts, as `--cwd` takes it."""
    members: str = ""
    """As `--ensemble` takes it; empty for one run."""


@dataclass(frozen=True)
class StaleRunChoice:
    """A run that holds a GPU, a process or a session without making progress."""

    run_id: str
    node: str
    why: str
    """The evidence, as a sentence."""


@dataclass(frozen=True)
class PaletteCommand:
    """A command of giblet with its arguments."""

    words: tuple[str, ...]
    about: str
    how: How
    """`show` what it prints, give it the `terminal` until it ends, or `copy` it for a shell."""

    @property
    def command(self) -> str:
        """Return the line to type in a shell."""
        return shlex.join(("giblet", *self.words))


class DashboardActions(Protocol):
    """What keys may cause; the commands of giblet call the same functions.

    Each call may take minutes and runs on a worker thread, except where it says that it returns at once. Each raises
    GibletError for what the user can fix.
    """

    def stop(self, run_id: str, report: Callable[[str], None]) -> str:
        """Stop a run, gracefully first, and return the proof as a sentence. Calls `report` with each stage."""

    def find_stale(self, report: Callable[[str], None]) -> Sequence[StaleRunChoice]:
        """Return the stale runs of all nodes. Calls `report` for nodes that could not be asked."""

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        """Acknowledge every active alert of a run, or snooze them for some seconds; return what was done."""

    def verbs(self, run_id: str | None, node: str | None) -> Sequence[PaletteCommand]:
        """Return all commands for this run and node, at once."""

    def output(self, words: Sequence[str], show: Callable[[str], None], end: threading.Event) -> None:
        """Run a command and call `show` with each line that it prints, errors included, until `closed` is set."""

    def argv(self, words: Sequence[str]) -> Sequence[str]:
        """Return the command line of a command that takes the terminal, at once."""

    def configs(self) -> Sequence[str]:
        """Return the names of all configurations, at once."""

    def changes(self, choice: LaunchChoice) -> Sequence[str]:
        """Return the difference from the base configuration and the last run of that name; for a command, what is sent.

        Asks no node. Raises GibletError for values that exclude each other.
        """

    def dry_run(self, choice: LaunchChoice) -> Sequence[str]:
        """Return all that a launch would do, in lines; starts nothing. Raises GibletError if the node refuses."""

    def launch(self, choice: LaunchChoice, report: Callable[[str], None]) -> str:
        """Start the run, or the members of an ensemble; return their ids. Calls `report` with each stage."""
