"""The hardware pane: the node's GPUs, whose processes hold them, and the node's memory and disk."""

from __future__ import annotations

from textual.content import Content

from giblet_tui.dashboard.model.gpu_history import spark
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.snapshots import Gpu, NodeFacts

HOT_C = 85.0
LOW_DISK_GIB = 20.0
FEW_CELLS, WIDE_CELLS = 30, 58
BAR_CELLS, HOLDER_CELLS = 14, 16
HOST_ROWS = 3

Lately = tuple[float | None, ...]


class Hardware(Pane):
    """A row or two per GPU by width; on a node without GPUs the reason, and what it has instead."""

    def title(self) -> Content:
        if self.view is None:
            return join_parts(("hardware", "bold"))
        return join_parts(("hardware  ", "bold"), (self.view.node.node, styles.MUTED))

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        facts = self.view.node.facts
        if height == 1:
            return [_in_one_row(facts)]
        roomy = height >= 2 * len(facts.gpus) + HOST_ROWS
        lately = self.view.gpus
        cards = [row for gpu in facts.gpus for row in _card(gpu, width, roomy, lately.get(gpu.uuid, ()))]
        if not facts.gpus:
            cards = [join_parts("no GPUs  ", (facts.gpu_note, styles.MUTED))]
        return [*cards, *_host(facts)]


def _card(gpu: Gpu, width: int, roomy: bool, lately: Lately) -> list[Content]:
    """One GPU in a row; what holds it and what it did lately in a second one, or on the same where it is wide."""
    used = gpu.memory_used_gib / gpu.memory_total_gib if gpu.memory_total_gib else 0.0
    heat = f"{gpu.temperature:.0f}°" if gpu.temperature is not None else "–"
    load = f"{gpu.utilisation:.0f}%" if gpu.utilisation is not None else "–"
    hot = gpu.temperature is not None and gpu.temperature >= HOT_C
    memory = f" {gpu.memory_used_gib:>3.0f}/{gpu.memory_total_gib:.0f}" if width >= FEW_CELLS else ""
    wide = width >= WIDE_CELLS
    done, rest = progress_bar(used, BAR_CELLS if wide else max(4, width - 13 - len(memory)))
    first: list[Part] = [
        (f"{gpu.index} ", "bold"),
        (done, "$accent"),
        (rest, styles.MUTED),
        (f"{memory} GiB" if wide else memory, styles.MUTED),
        f" {load:>4}",
        (f" {heat:>4}", "$error bold" if hot else styles.MUTED),
    ]
    holders = _holders(gpu)
    ink = styles.MUTED if gpu.not_free else "$success"
    if wide:
        shown = spark(lately, width - WIDE_CELLS)
        return [join_parts(*first, (f"  {holders[:HOLDER_CELLS]:<{HOLDER_CELLS}} ", ink), (shown, "$accent"))]
    room = width - len(holders) - 4
    below = join_parts((f"  {holders}", ink), (f"  {spark(lately, room)}", "$accent"))
    return [join_parts(*first), below] if roomy else [join_parts(*first)]


def _holders(gpu: Gpu) -> str:
    return ", ".join(f"{user} {pid}" for pid, user, _ in gpu.processes) or gpu.not_free or "free"


def _host(facts: NodeFacts) -> list[Content]:
    if not facts.n_cpus:
        return []
    used = facts.ram_total_gib - facts.ram_available_gib
    disk = "$error bold" if facts.disk_free_gib < LOW_DISK_GIB else ""
    return [
        join_parts(("cpu  ", styles.MUTED), f"load {facts.load_1m:.1f} on {facts.n_cpus}"),
        join_parts(("ram  ", styles.MUTED), f"{used:,.0f} of {facts.ram_total_gib:,.0f} GiB"),
        join_parts(("disk ", styles.MUTED), (f"{facts.disk_free_gib:,.0f} GiB free", disk)),
    ]


def _in_one_row(facts: NodeFacts) -> Content:
    if not facts.gpus:
        return join_parts(
            ("no GPUs", styles.MUTED),
            f"  load {facts.load_1m:.1f} on {facts.n_cpus} cpus",
            f"  ram {facts.ram_available_gib:,.0f} GiB free  disk {facts.disk_free_gib:,.0f} GiB free",
        )
    cells = spark(tuple(100 * g.memory_used_gib / max(g.memory_total_gib, 1e-9) for g in facts.gpus), len(facts.gpus))
    busiest = max((g.temperature for g in facts.gpus if g.temperature is not None), default=None)
    heat: Part = (f"  hottest {busiest:.0f}°" if busiest is not None else "", styles.MUTED)
    return join_parts(
        ("GPU memory ", styles.MUTED), (cells, "$accent"), f"  {free_gpus(facts)} of {len(facts.gpus)} free", heat
    )


def free_gpus(facts: NodeFacts) -> int:
    """Return how many GPUs a run could take now."""
    return sum(not gpu.not_free for gpu in facts.gpus)
