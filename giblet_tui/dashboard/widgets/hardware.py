"""The hardware pane: the node's GPUs, whose processes hold them, and the node's memory and disk."""

from __future__ import annotations

from textual.content import Content

from giblet_tui.dashboard import palette
from giblet_tui.dashboard.text import bar, line
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.fleet import Gpu, NodeFacts

BUSY_GIB = 1.0
HOT_C = 85.0
LOW_DISK_GIB = 20.0
FEW_CELLS = 30
HOST_ROWS = 3


class Hardware(Pane):
    """A row or two per GPU by width; on a node without GPUs the reason, and what it has instead."""

    def heading(self) -> Content:
        if self.view is None:
            return line(("hardware", "bold"))
        return line(("hardware  ", "bold"), (self.view.node.node, palette.MUTED))

    def lines(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        facts = self.view.node.facts
        if height == 1:
            return [_in_one_row(facts)]
        roomy = height >= 2 * len(facts.gpus) + HOST_ROWS
        cards = [row for gpu in facts.gpus for row in _card(gpu, width, roomy)]
        if not facts.gpus:
            cards = [line("no GPUs  ", (facts.gpu_note, palette.MUTED))]
        return [*cards, *_host(facts)]


def _card(gpu: Gpu, width: int, roomy: bool) -> list[Content]:
    used = gpu.memory_used_gib / gpu.memory_total_gib if gpu.memory_total_gib else 0.0
    heat = f"{gpu.temperature:.0f}°" if gpu.temperature is not None else "–"
    load = f"{gpu.utilisation:.0f}%" if gpu.utilisation is not None else "–"
    hot = gpu.temperature is not None and gpu.temperature >= HOT_C
    memory = f" {gpu.memory_used_gib:>3.0f}/{gpu.memory_total_gib:.0f}" if width >= FEW_CELLS else ""
    first = line(
        (f"{gpu.index} ", "bold"),
        (bar(used, max(4, width - 13 - len(memory))), "$accent"),
        (memory, palette.MUTED),
        f" {load:>4}",
        (f" {heat:>4}", "$error bold" if hot else palette.MUTED),
    )
    return [first, line((f"  {_holders(gpu)}", palette.MUTED))] if roomy else [first]


def _holders(gpu: Gpu) -> str:
    return ", ".join(f"{user} {pid}" for pid, user, _ in gpu.processes) or "free"


def _host(facts: NodeFacts) -> list[Content]:
    if not facts.n_cpus:
        return []
    used = facts.ram_total_gib - facts.ram_available_gib
    disk = "$error bold" if facts.disk_free_gib < LOW_DISK_GIB else ""
    return [
        line(("cpu  ", palette.MUTED), f"{facts.load_1m:.1f} of {facts.n_cpus} busy"),
        line(("ram  ", palette.MUTED), f"{used:,.0f} of {facts.ram_total_gib:,.0f} GiB"),
        line(("disk ", palette.MUTED), (f"{facts.disk_free_gib:,.0f} GiB free", disk)),
    ]


def _in_one_row(facts: NodeFacts) -> Content:
    if not facts.gpus:
        return line(
            ("no GPUs", palette.MUTED),
            f"  cpu {facts.load_1m:.1f}/{facts.n_cpus}",
            f"  ram {facts.ram_available_gib:,.0f} GiB free  disk {facts.disk_free_gib:,.0f} GiB free",
        )
    cells = "".join(bar(g.memory_used_gib / max(g.memory_total_gib, 1e-9), 1) for g in facts.gpus)
    free = sum(g.memory_used_gib < BUSY_GIB for g in facts.gpus)
    return line(("GPUs ", palette.MUTED), (f"▕{cells}▏", "$accent"), f" {free} of {len(facts.gpus)} free")
