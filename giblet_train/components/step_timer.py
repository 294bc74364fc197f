"""Where a step's seconds go."""

from __future__ import annotations

import time

from giblet_train.distributed.process_group import Collectives


class StepTimer:
    """Seconds by what they were spent on, in the order of the laps; what sums over ranks took is communication."""

    def __init__(self, wire: Collectives) -> None:
        self._started = self._last = time.perf_counter()
        self._wire, self._sent_s = wire, wire.seconds
        self.laps: dict[str, float] = {"communication_s": 0.0}

    def lap(self, name: str) -> None:
        """What went by since the last lap went into `name`."""
        now, sent_s = time.perf_counter(), self._wire.seconds - self._sent_s
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last - sent_s
        self.laps["communication_s"] += sent_s
        self._last, self._sent_s = now, self._wire.seconds

    @property
    def alone_s(self) -> float:
        """Up to the last lap, without waiting for others."""
        return self._last - self._started - self.laps["communication_s"]

    @property
    def total_s(self) -> float:
        """Up to the last lap."""
        return self._last - self._started
