"""Print the progress of a run: phases, occasional steps, every epoch, every event, its end."""

from __future__ import annotations

from giblet_train.schema.records import EpochMetric
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.formatting import epoch_line, progress_line, rates

STEP_LINE_EVERY_S = 5.0


class ProgressPrinter:
    """Remembers which lines of one run were printed. Uses the node's times, so lines depend only on the records."""

    def __init__(self) -> None:
        self._state = ""
        self._phase = ""
        self._epoch: int | None = None
        self._events = 0
        self._step_at = float("-inf")

    def new_lines(self, run: RunSnapshot) -> list[str]:
        """Return the lines that are new since the last call."""
        return [*self._state_lines(run), *self._event_lines(run), *self._step_lines(run)]

    def _state_lines(self, run: RunSnapshot) -> list[str]:
        lines = []
        if run.health.state != self._state:
            self._state = run.health.state
            lines.append(f"{run.health.state}: {run.health.sentence}")
        shows_epochs = bool(run.steps) or (run.run.command is not None and bool(run.epochs))
        phase = run.heartbeat.phase if run.heartbeat and not shows_epochs else ""
        if phase and phase != self._phase and not any(phase in line for line in lines):
            lines.append(phase)
        self._phase = phase
        return lines

    def _event_lines(self, run: RunSnapshot) -> list[str]:
        new = run.events[self._events :]
        self._events = len(run.events)
        return [f"{event.level}: {event.sentence}" for event in new if event.level != "info"]

    def _step_lines(self, run: RunSnapshot) -> list[str]:
        epochs = self._ended_epochs(run)
        if epochs:
            self._step_at = epochs[-1].at
            return [epoch_line(run, epoch) for epoch in epochs]
        if run.steps and run.steps[-1].at - self._step_at >= STEP_LINE_EVERY_S:
            self._step_at = run.steps[-1].at
            return [" | ".join(part for part in (progress_line(run), rates(run)) if part)]
        return []

    def _ended_epochs(self, run: RunSnapshot) -> list[EpochMetric]:
        """Return the epochs completed since the last call; at the first call only the newest."""
        previous, last = self._epoch, run.epochs[-1].epoch if run.epochs else 0
        self._epoch = last
        return [e for e in run.epochs if e.epoch > (last - 1 if previous is None else previous)]
