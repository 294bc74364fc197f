"""Keep what each GPU did recently, as the dashboard saw it: one sample every few seconds, the oldest are dropped."""

from __future__ import annotations

from collections import deque

from giblet_tui.monitor.snapshots import NodeSnapshot

EVERY_S = 5.0
SAMPLES = 120
LEVELS = "▁▂▃▄▅▆▇"
UNKNOWN = "·"


class GpuHistory:
    """Utilisation of every GPU of every node, oldest first; None where nvidia-smi did not report it."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], deque[float | None]] = {}
        self._at: dict[str, float] = {}

    def add(self, node: NodeSnapshot) -> None:
        """Take a sample of a node with a live link, unless the last sample is younger than `EVERY_S`."""
        at = node.observed_at
        if at is None or node.link != "live" or at - self._at.get(node.node, 0.0) < EVERY_S:
            return
        self._at[node.node] = at
        for gpu in node.facts.gpus:
            self._samples.setdefault((node.node, gpu.uuid), deque(maxlen=SAMPLES)).append(gpu.utilisation)

    def of(self, node: str) -> dict[str, tuple[float | None, ...]]:
        """Return the samples of a node's GPUs by uuid."""
        return {uuid: tuple(samples) for (name, uuid), samples in self._samples.items() if name == node}


def spark(percents: tuple[float | None, ...], cells: int) -> str:
    """Return the newest samples as bars, one cell each; `·` where the value is unknown."""
    return "".join(
        UNKNOWN if percent is None else LEVELS[min(len(LEVELS) - 1, int(max(0.0, percent) / 100 * len(LEVELS)))]
        for percent in (percents[-cells:] if cells > 0 else ())
    )
