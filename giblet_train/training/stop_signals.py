"""Stop requests: the stop file, SIGTERM and SIGINT."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Literal

from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.errors import Preempted
from giblet_train.schema.run_dir import RunDir

SIGNALS = (signal.SIGTERM, signal.SIGINT)
POLL_S = 1.0
"""How often the stop file is looked for where no step does."""
Request = Literal["stop", "terminate"]


class StopRequested(BaseException):
    """A stop request during `StopSignals.obeyed_at_once`; no computation may take it for an error of its own."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request


class StopSignals:
    """While entered, TERM and INT are stop requests.

    They are obeyed at once before the first step, then between two steps, and at once again after the last.
    """

    def __init__(self, run_dir: RunDir, ranks: ProcessGroup) -> None:
        self._run_dir, self._ranks = run_dir, ranks
        self.terminate_requested = False
        self._stepping = False
        self._raises = False

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

    def request(self) -> Request | None:
        """Return the stop request that this rank sees."""
        if self.terminate_requested:
            return "terminate"
        return "stop" if self._run_dir.stop.exists() else None

    @contextmanager
    def obeyed_at_once(self) -> Iterator[None]:
        """Raise StopRequested in the block as soon as there is a request: for long work that may end anywhere.

        Each rank looks for itself, so the block must not be followed by a collective that a rank may miss.
        A timer of the caller's waits during the block, and runs out right after it if its time has passed.
        """
        began = time.monotonic()
        delay_s, interval_s = signal.setitimer(signal.ITIMER_REAL, 0.0)
        handler = signal.signal(signal.SIGALRM, self._on_timer)
        try:
            self._raises = True
            self._raise_request()
            signal.setitimer(signal.ITIMER_REAL, POLL_S, POLL_S)
            yield
        finally:
            self._raises = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, handler)
            if delay_s:
                remaining_s = max(1e-3, delay_s - (time.monotonic() - began))
                signal.setitimer(signal.ITIMER_REAL, remaining_s, interval_s)

    def _raise_request(self) -> None:
        """Raise StopRequested if there is a request; again with each tick, as Python drops what a finaliser raises."""
        if self._raises and (request := self.request()) is not None:
            raise StopRequested(request)

    def _on_timer(self, number: int, frame: FrameType | None) -> None:
        self._raise_request()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.terminate_requested = True
        self._raise_request()
        if not self._stepping:
            raise Preempted("Terminated before the first step; nothing was lost.", "Start it again.")
