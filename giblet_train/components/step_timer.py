"""Measure where the seconds of a step go."""

from __future__ import annotations

import time

from giblet_train.distributed.process_group import ProcessGroup, synchronize


class StepTimer:
    """Seconds of a step by stage; all-reduces count as communication.

    On a GPU every lap waits for the device: kernels are only enqueued, and their time would otherwise be counted in
    whatever stage first needs a result.
    """

    def __init__(self, ranks: ProcessGroup) -> None:
        self._device, self._wire = ranks.device, ranks.wire
        synchronize(self._device)
        self._started = self._last = time.perf_counter()
        self._sent_s = self._wire.seconds
        self.laps: dict[str, float] = {"communication_s": 0.0}

    def lap(self, name: str) -> None:
        """Count the time since the last lap as `name`."""
        synchronize(self._device)
        now, sent_s = time.perf_counter(), self._wire.seconds - self._sent_s
        self.laps[name] = self.laps.get(name, 0.0) + now - self._last - sent_s
        self.laps["communication_s"] += sent_s
        self._last, self._sent_s = now, self._wire.seconds

    @property
    def alone_s(self) -> float:
        """Return the seconds up to the last lap, without communication."""
        return self._last - self._started - self.laps["communication_s"]

    @property
    def total_s(self) -> float:
        """Return the seconds up to the last lap."""
        return self._last - self._started
