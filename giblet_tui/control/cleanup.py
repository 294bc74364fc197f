"""Freeing space: which runs and environments of a node may go, how much each holds, and taking them away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from giblet_tui.connection.base import Connection
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.deploy.install import environment_key
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import cache

OLD_DAYS = 30.0
"""Ended runs that have lain for so long are what `prune` takes."""
LIMIT_S = 900.0
"""Counting and removing many small files over a network file system takes long."""
_UNITS = ("B", "kB", "MB", "GB", "TB")


class DiskItem(msgspec.Struct, frozen=True, kw_only=True):
    """A run or an environment on a node: what it takes, since when nothing changed in it, and why it must stay."""

    kind: Literal["run", "environment"]
    name: str
    bytes: int
    idle_days: float
    kept: str = ""

    @property
    def sentence(self) -> str:
        """For a list of what goes, or stays."""
        line = f"{self.kind} {self.name}: {format_bytes(self.bytes)}, unchanged for {self.idle_days:.0f} days"
        return f"{line}; stays: {self.kept}" if self.kept else line


class CleanupResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, and what was refused, by name: the reason."""

    removed: dict[str, int]
    refused: dict[str, str]

    @property
    def bytes(self) -> int:
        return sum(self.removed.values())


def list_disk_usage(node: Node, connection: Connection) -> list[DiskItem]:
    """Every run and environment of a node, with what it holds. Nothing is changed."""
    arguments = _needs(node)
    told = sanitize_value(connection.call("holdings", arguments, timeout_s=LIMIT_S))
    kinds: tuple[tuple[Literal["run", "environment"], str], ...] = (("run", "runs"), ("environment", "environments"))
    return [DiskItem(kind=kind, **_fields(each)) for kind, key in kinds for each in told[key]]


def prune_candidates(found: Sequence[DiskItem], older_days: float = OLD_DAYS) -> list[DiskItem]:
    """What `prune` takes: runs that ended and lay for older_days, and every environment but those that are needed."""
    return [each for each in found if not each.kept and (each.kind == "environment" or each.idle_days >= older_days)]


def remove(node: Node, connection: Connection, chosen: Sequence[DiskItem], say: Callable[[str], None]) -> CleanupResult:
    """Take runs and environments away; the node looks at each again and refuses what is needed by now."""
    arguments = {
        **_needs(node),
        "runs": [each.name for each in chosen if each.kind == "run"],
        "environments": [each.name for each in chosen if each.kind == "environment"],
    }
    told = connection.call(
        "remove", arguments, timeout_s=LIMIT_S, on_event=lambda event: say(sanitize(str(event.get("step", ""))))
    )
    told = sanitize_value(told)
    return CleanupResult(
        removed={each["name"]: each["bytes"] for each in told["removed"]},
        refused={each["name"]: each["why"] for each in told["refused"]},
    )


def format_bytes(n_bytes: float) -> str:
    """`512 B`, `3.1 GB`: powers of 1000."""
    for unit in _UNITS:
        if n_bytes < 1000 or unit == _UNITS[-1]:
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"


def _needs(node: Node) -> dict[str, Any]:
    """What the node cannot know by itself: our version, and runs that ones on other nodes were promoted from."""
    promoted = {run.run.promotion.from_run: run.run.run_id for run in cache.load().runs() if run.run.promotion}
    return {"workdir": node.workdir, "keep": environment_key(), "promoted": promoted}


def _fields(told: dict[str, Any]) -> dict[str, Any]:
    return {name: told[name] for name in ("name", "bytes", "idle_days", "kept")}
