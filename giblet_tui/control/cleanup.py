"""Free disk space on a node: list its runs and environments with their size, and remove those no longer needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from giblet_tui.connection.base import Connection
from giblet_tui.connection.protocol import DiskUse, Holdings, Removal, progress_to
from giblet_tui.deploy.install import environment_key
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache

OLD_DAYS = 30.0
"""`prune` removes runs that ended at least this long ago."""
LIMIT_S = 900.0
"""Counting and removing many small files on a network file system is slow."""
_UNITS = ("B", "kB", "MB", "GB", "TB")


class DiskItem(msgspec.Struct, frozen=True, kw_only=True):
    """A run or an environment on a node."""

    kind: Literal["run", "environment"]
    name: str
    bytes: int
    idle_days: float
    """Days since anything in it changed."""
    kept: str = ""
    """Why it must stay; empty if it may be removed."""

    @property
    def sentence(self) -> str:
        """Return the line for a list of what is removed or stays."""
        line = f"{self.kind} {self.name}: {format_bytes(self.bytes)}, unchanged for {self.idle_days:.0f} days"
        return f"{line}; stays: {self.kept}" if self.kept else line


class CleanupResult(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a removal."""

    removed: dict[str, int]
    """Name -> bytes freed."""
    refused: dict[str, str]
    """Name -> reason."""

    @property
    def bytes(self) -> int:
        return sum(self.removed.values())


def list_disk_usage(node: Node, connection: Connection) -> list[DiskItem]:
    """List the runs and environments of a node with their sizes; changes nothing."""
    arguments = _needs(node)
    holdings = connection.call("holdings", arguments, Holdings, timeout_s=LIMIT_S)
    return [*_items("run", holdings.runs), *_items("environment", holdings.environments)]


def prune_candidates(items: Sequence[DiskItem], older_days: float = OLD_DAYS) -> list[DiskItem]:
    """Return what `prune` removes: runs that ended at least older_days ago, and environments that no run needs."""
    return [item for item in items if not item.kept and (item.kind == "environment" or item.idle_days >= older_days)]


def remove(
    node: Node, connection: Connection, items: Sequence[DiskItem], report: Callable[[str], None]
) -> CleanupResult:
    """Remove runs and environments; the node checks each again and refuses those needed by now."""
    arguments = {
        **_needs(node),
        "runs": [item.name for item in items if item.kind == "run"],
        "environments": [item.name for item in items if item.kind == "environment"],
    }
    removal = connection.call("remove", arguments, Removal, timeout_s=LIMIT_S, on_event=progress_to(report))
    return CleanupResult(
        removed={item.name: item.bytes for item in removal.removed},
        refused={item.name: item.why for item in removal.refused},
    )


def format_bytes(n_bytes: float) -> str:
    """Return `512 B` or `3.1 GB`, in powers of 1000."""
    for unit in _UNITS:
        if n_bytes < 1000 or unit == _UNITS[-1]:
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def _needs(node: Node) -> dict[str, Any]:
    """Return what the node cannot know: our version, and which of its runs were promoted on other nodes."""
    next_runs = {run.run.promotion.from_run: run.run.run_id for run in cache.load().runs() if run.run.promotion}
    return {"workdir": node.workdir, "keep": environment_key(), "promoted": next_runs}


def _items(kind: Literal["run", "environment"], uses: Sequence[DiskUse]) -> list[DiskItem]:
    return [DiskItem(kind=kind, name=use.name, bytes=use.bytes, idle_days=use.idle_days, kept=use.kept) for use in uses]
