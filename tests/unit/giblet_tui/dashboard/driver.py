"""Drive the dashboard in tests: a source and actions that obey the test, a clock moved by hand, the screen as text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.cells import cell_len
from textual.pilot import Pilot

from giblet_tui.dashboard.app import DashboardApp
from giblet_tui.dashboard.model.interfaces import LaunchChoice, PaletteCommand, StaleRunChoice
from giblet_tui.monitor.snapshots import Fleet, NodeSnapshot
from tests import fleets

PATIENCE_S = 30.0
SIZES = [(80, 24), (120, 40), (200, 50), (60, 15)]


class Tape:
    """A source that posts what a test passes to it, from a thread of its own."""

    def __init__(self) -> None:
        self.post: Callable[[NodeSnapshot], None] | None = None
        self.closed = False

    def start(self, post: Callable[[NodeSnapshot], None]) -> None:
        self.post = post

    def close(self) -> None:
        self.closed = True

    def play(self, *snapshots: NodeSnapshot) -> None:
        assert self.post is not None
        post = self.post
        thread = threading.Thread(target=lambda: [post(snapshot) for snapshot in snapshots])
        thread.start()
        thread.join()


class Recorder:
    """Actions that record their calls, and raise an error if they were given one."""

    def __init__(self, error: Exception | None = None, stale: Sequence[StaleRunChoice] = ()) -> None:
        self.stopped: list[str] = []
        self.launched: list[LaunchChoice] = []
        self.answered: list[tuple[str, float | None]] = []
        self.printed: list[tuple[str, ...]] = []
        self.stale = stale
        self.error = error

    def stop(self, run_id: str, report: Callable[[str], None]) -> str:
        self.stopped.append(run_id)
        report("asked to stop")
        self._raise()
        return "nothing survives"

    def find_stale(self, report: Callable[[str], None]) -> Sequence[StaleRunChoice]:
        self._raise()
        return self.stale

    def answer(self, run_id: str, snooze_s: float | None) -> str:
        self.answered.append((run_id, snooze_s))
        self._raise()
        return "1 alert acknowledged"

    def verbs(self, run_id: str | None, node: str | None) -> list[PaletteCommand]:
        self._raise()
        return [
            PaletteCommand(("why", run_id or "RUN"), "Print why.", "show"),
            PaletteCommand(("pull", run_id or "RUN"), "Copy it here.", "copy"),
        ]

    def output(self, words: Sequence[str], show: Callable[[str], None], end: threading.Event) -> None:
        self.printed.append(tuple(words))
        show(f"output for {words[-1]}")
        self._raise()
        show("\x1b[2J[bold]not markup[/bold]")

    def argv(self, words: Sequence[str]) -> list[str]:
        return ["true"]

    def configs(self) -> list[str]:
        return ["demo", "pilot"]

    def changes(self, choice: LaunchChoice) -> list[str]:
        return ["different from demo-1:", "  num_epochs: 20 → 5"]

    def dry_run(self, choice: LaunchChoice) -> list[str]:
        self._raise()
        return ["on GPU 6, in a tmux session"]

    def launch(self, choice: LaunchChoice, report: Callable[[str], None]) -> str:
        self.launched.append(choice)
        report("placing files")
        self._raise()
        return "pilot-1"

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error


class Clock:
    """The laptop's time, moved by hand."""

    def __init__(self) -> None:
        self.now = fleets.NOW + 1

    def __call__(self) -> float:
        return self.now


def dashboard(fleet: Fleet, **changes: Any) -> DashboardApp:
    """Return a dashboard over a fleet; `changes` replace its source, actions or clock, or are passed on."""
    values: dict[str, Any] = {"source": Tape(), "actions": Recorder(), "clock": Clock()} | changes
    return DashboardApp(values.pop("source"), values.pop("actions"), fleet, **values)


def screen_text(app: DashboardApp) -> list[str]:
    """Return the rows of the terminal as plain text."""
    width, height = app.size
    strips = app.screen._compositor.render_strips()
    rows = ["".join(segment.text for segment in strip) for strip in strips]
    assert len(rows) == height and all(cell_len(row) == width for row in rows)
    return rows


async def until(pilot: Pilot[int], condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after `PATIENCE_S`."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "\n".join(screen_text(pilot.app))  # type: ignore[arg-type]
        await pilot.pause(0.02)


async def settle(pilot: Pilot[int]) -> None:
    """Wait until workers and messages are done."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
