"""Stop requests: the stop file, SIGTERM and SIGINT."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.errors import Preempted
from giblet_train.schema.run_dir import RunDir

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, TERM and INT are stop requests: obeyed at once before the first step, then between two steps."""

    def __init__(self, run_dir: RunDir, ranks: ProcessGroup) -> None:
        self._run_dir, self._ranks = run_dir, ranks
        self.terminate_requested = False
        self._stepping = False

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def defer_signals(self) -> None:
        """Defer signals to the end of a step from now on, so that the step can be saved."""
        self._stepping = True

    def poll(self) -> dict[str, bool]:
        """Return this rank's stop requests; TrainStep combines them over ranks."""
        return {"stop": self._ranks.is_first and self._run_dir.stop.exists(), "terminate": self.terminate_requested}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.terminate_requested = True
        if not self._stepping:
            raise Preempted("Terminated before the first step; nothing was lost.", "Start it again.")
