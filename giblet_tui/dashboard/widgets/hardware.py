"""The hardware pane: the node's GPUs with column headings, who holds them, and the node's memory and disk."""

from __future__ import annotations

import textwrap
from typing import ClassVar

from textual.content import Content

from giblet_tui.dashboard.model.gpu_history import spark
from giblet_tui.dashboard.model.pane_layout import SizeHint
from giblet_tui.dashboard.style import styles
from giblet_tui.dashboard.style.safe_text import Part, join_parts, progress_bar
from giblet_tui.dashboard.widgets.pane import Pane
from giblet_tui.monitor.snapshots import Gpu, NodeFacts

HOT_C = 85.0
LOW_DISK_GIB = 20.0
FEW_CELLS, WIDE_CELLS = 30, 60
BAR_CELLS, HOLDER_CELLS = 14, 18
LATELY_CELLS = 12
HOST_ROWS, RULE = 3, 1
GPU_CELLS, NODE_CELLS = 32, 26
"""Cells of the pane as a side column, with GPUs and without."""

Utilisations = tuple[float | None, ...]


class Hardware(Pane):
    """One or two rows per GPU, depending on the width; on a node without GPUs the reason, and what it has instead."""

    TICKS: ClassVar[bool] = True

    def title(self) -> Content:
        if self.view is None:
            return join_parts(("hardware", "bold"))
        return join_parts(("hardware  ", "bold"), (self.view.node.node, styles.MUTED))

    def size_hint(self, width: int) -> SizeHint | None:
        if self.view is None:
            return None
        n_gpus = len(self.view.node.facts.gpus)
        least = RULE + (HOST_ROWS + 1 + n_gpus if n_gpus else self.content_rows(width or NODE_CELLS))
        return SizeHint(GPU_CELLS if n_gpus else NODE_CELLS, (1, least, least + n_gpus), 1)

    def render_lines_for(self, width: int, height: int) -> list[Content]:
        assert self.view is not None
        facts = self.view.node.facts
        if height == 1:
            return [_in_one_row(facts, width)]
        if not facts.gpus:
            reason = textwrap.wrap(f"no GPUs: {facts.gpu_note}" if facts.gpu_note else "no GPUs", max(1, width))
            return [*(join_parts((line, styles.MUTED)) for line in reason), *_host(facts)]
        two_rows = height >= 1 + 2 * len(facts.gpus) + HOST_ROWS
        utilisations, cells = self.view.gpus, _memory_cells(facts.gpus, width)
        rows = [r for gpu in facts.gpus for r in _gpu_rows(gpu, width, cells, two_rows, utilisations.get(gpu.uuid, ()))]
        return [_headings(facts.gpus, width), *rows, *_host(facts)]


def is_free(gpu: Gpu) -> bool:
    """Return True if a run may take the GPU now: the judgement of the node's agent, which the launcher shares."""
    return not gpu.not_free


def free_gpus(facts: NodeFacts) -> int:
    """Return how many GPUs a run may take now."""
    return sum(is_free(gpu) for gpu in facts.gpus)


def holder_words(gpu: Gpu) -> str:
    """Return who holds a GPU in few cells: users with pids, else why it is not free, else `free`."""
    holders = ", ".join(f"{user} {pid}" for pid, user, _ in gpu.processes)
    return "free" if is_free(gpu) else holders or gpu.not_free


def _memory_cells(gpus: tuple[Gpu, ...], width: int) -> int:
    """Return the cells of `42/48`, 0 where the bar alone has room."""
    if width < FEW_CELLS:
        return 0
    return max(len(_memory(gpu)) for gpu in gpus)


def _memory(gpu: Gpu) -> str:
    return f"{gpu.memory_used_gib:.0f}/{gpu.memory_total_gib:.0f}"


def _bar_cells(width: int, memory_cells: int) -> int:
    return BAR_CELLS if width >= WIDE_CELLS else max(4, width - 13 - memory_cells - bool(memory_cells))


def _headings(gpus: tuple[Gpu, ...], width: int) -> Content:
    """Return the names of the columns, at their places in `_gpu_rows`."""
    memory_cells = _memory_cells(gpus, width)
    memory = f"{'memory GiB' if memory_cells else 'memory':<{_bar_cells(width, memory_cells)}}"
    memory = memory[: _bar_cells(width, memory_cells)]
    gap = " " * (memory_cells + bool(memory_cells))
    return join_parts(
        (
            f"# {memory}{gap} {'load':>4} {'temp':>4}{_last_headings(width)}",
            styles.MUTED,
        )
    )


def _last_headings(width: int) -> str:
    """Return the names of the columns that only a wide pane has."""
    if width < WIDE_CELLS:
        return ""
    return f"  {'used by':<{HOLDER_CELLS}} load lately" if width >= WIDE_CELLS + LATELY_CELLS else "  used by"


def _gpu_rows(gpu: Gpu, width: int, memory_cells: int, two_rows: bool, utilisations: Utilisations) -> list[Content]:
    """Return a GPU in one row; who holds it and its recent load in a second one, or on the same where it is wide."""
    memory_share = gpu.memory_used_gib / gpu.memory_total_gib if gpu.memory_total_gib else 0.0
    temperature = f"{gpu.temperature:.0f}°" if gpu.temperature is not None else "–"
    load = f"{gpu.utilisation:.0f}%" if gpu.utilisation is not None else "–"
    hot = gpu.temperature is not None and gpu.temperature >= HOT_C
    wide = width >= WIDE_CELLS
    bar, rest = progress_bar(memory_share, _bar_cells(width, memory_cells))
    first: list[Part] = [
        (f"{gpu.label} ", "bold"),
        (bar, "$accent"),
        (rest, styles.MUTED),
        (f" {_memory(gpu):>{memory_cells}}" if memory_cells else "", styles.MUTED),
        f" {load:>4}",
        (f" {temperature:>4}", "$error bold" if hot else styles.MUTED),
    ]
    holders = holder_words(gpu)
    style = "$success" if is_free(gpu) else styles.MUTED
    if wide:
        recent = spark(utilisations, width - WIDE_CELLS)
        return [join_parts(*first, (f"  {holders[:HOLDER_CELLS]:<{HOLDER_CELLS}} ", style), (recent, "$accent"))]
    room = width - len(holders) - 4
    below = join_parts((f"  {holders}", style), (f"  {spark(utilisations, room)}", "$accent"))
    return [join_parts(*first), below] if two_rows else [join_parts(*first)]


def _host(facts: NodeFacts) -> list[Content]:
    if not facts.n_cpus:
        return []
    ram_gib = facts.ram_total_gib - facts.ram_available_gib
    disk = "$error bold" if facts.disk_free_gib < LOW_DISK_GIB else ""
    return [
        join_parts(("cpu  ", styles.MUTED), f"load {facts.load_1m:.1f} on {facts.n_cpus} cores"),
        join_parts(("ram  ", styles.MUTED), f"{ram_gib:,.0f} of {facts.ram_total_gib:,.0f} GiB"),
        join_parts(("disk ", styles.MUTED), (f"{facts.disk_free_gib:,.0f} GiB free", disk)),
    ]


def _in_one_row(facts: NodeFacts, width: int) -> Content:
    if not facts.gpus:
        ram = f"  ram {facts.ram_available_gib:,.0f} GiB free  disk {facts.disk_free_gib:,.0f} GiB free"
        return join_parts(("no GPUs", styles.MUTED), f"  load {facts.load_1m:.1f} on {facts.n_cpus} cores", ram)
    cells = spark(tuple(100 * g.memory_used_gib / max(g.memory_total_gib, 1e-9) for g in facts.gpus), len(facts.gpus))
    hottest = max((g.temperature for g in facts.gpus if g.temperature is not None), default=None)
    loads = [g.utilisation for g in facts.gpus if g.utilisation is not None]
    parts: list[Part] = [
        ("GPU memory ", styles.MUTED),
        (cells, "$accent"),
        f"  {free_gpus(facts)} of {len(facts.gpus)} free",
        (f"  mean load {sum(loads) / len(loads):.0f}%" if loads else "", styles.MUTED),
        (f"  hottest {hottest:.0f}°" if hottest is not None else "", styles.MUTED),
        (f"  disk {facts.disk_free_gib:,.0f} GiB free", styles.MUTED),
    ]
    row = join_parts(*parts[:4])
    for part in parts[4:]:
        longer = row + join_parts(part)
        row = longer if longer.cell_length <= width else row
    return row
