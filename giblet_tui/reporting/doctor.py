"""Format the findings of a node's checks, for people and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.finding import Finding
from giblet_tui.reporting import SCHEMA


def doctor_json(node: Node, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the object printed by `doctor --json`; `ok` is False if a launch would fail."""
    return {
        "schema": SCHEMA,
        "node": node.name,
        "ok": all(finding.well or not finding.needed for finding in findings),
        "findings": [msgspec.to_builtins(replace(f, remedy="") if f.well else f) for f in findings],
    }


def finding_lines(finding: Finding) -> tuple[str, list[str]]:
    """Return the finding in one line without its mark, and the lines of its remedy."""
    remedy = [] if finding.well else [f"    {line}" for line in finding.remedy.splitlines()]
    return f"{finding.name}: {finding.sentence}", remedy
