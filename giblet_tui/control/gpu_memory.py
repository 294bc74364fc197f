"""Describe the GPU memory that processes hold, and how to free it when no signal does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from giblet_tui.connection.protocol import GpuMemory


def format_held(holds: Iterable[GpuMemory]) -> str:
    """Return `12.0 GiB of GPU 3, 4.0 GiB of GPU 5`, one part per GPU; empty for none."""
    total: dict[int, float] = {}
    for share in holds:
        total[share.index] = total.get(share.index, 0.0) + share.memory_gib
    return ", ".join(f"{gib:.1f} GiB of GPU {index}" for index, gib in sorted(total.items()))


def format_orphaned(pid: int, holds: Iterable[GpuMemory], what: str = "which has ended") -> str:
    """Return a sentence: the driver still counts memory for a process that has ended. what: what is known about it."""
    return f"{format_held(holds)} is still counted for pid {pid}, {what}"


def advice(holds: Iterable[GpuMemory]) -> str:
    """Return how to free memory that no signal frees."""
    cards: Sequence[int] = sorted({share.index for share in holds})
    return (
        "The driver frees an ended process' memory when its last call returns. If that does not come, an administrator"
        f" resets the card once nothing else is on it: sudo nvidia-smi --gpu-reset -i {','.join(map(str, cards))}"
    )
