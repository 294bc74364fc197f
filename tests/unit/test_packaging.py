"""Facts about the repository that no tool checks: what runs on nodes, and files that must agree."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from giblet_tui.connection.agent_bundle import AGENT_MODULES, COMMAND_MONITOR_MODULES, LOG_READER, LOG_READER_MODULES
from tests.paths import ROOT

AGENT_FILES = sorted((ROOT / "giblet_tui" / "agent").glob("*.py"))
SHARED_MODULES = (*LOG_READER_MODULES, *(name for name in COMMAND_MONITOR_MODULES if "." in name))
"""Modules of the engine that are sent to nodes with the agent or a command's monitor."""
SHARED_FILES = [ROOT / f"{name.replace('.', '/')}.py" for name in SHARED_MODULES]
SENT = ("giblet_tui.agent", LOG_READER)


def imported_packages(tree: ast.AST) -> set[str]:
    """Return the modules that are imported by absolute name, those outside the agent by their package."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module or "")
    return {"sent" if module.startswith(SENT) else module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("path", [*AGENT_FILES, *SHARED_FILES], ids=lambda path: path.name)
def test_what_runs_on_nodes_is_standard_library_and_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    assert imported_packages(tree) - {"sent", *sys.stdlib_module_names} == set()


def test_the_check_of_the_agent_finds_what_it_forbids() -> None:
    assert imported_packages(ast.parse("import os, msgspec\nfrom giblet_tui.cli import app")) == {
        "os",
        "msgspec",
        "giblet_tui",
    }
    with pytest.raises(SyntaxError):
        ast.parse("match x:\n    case 1: pass\n", feature_version=(3, 8))


def test_every_module_of_the_agent_is_sent_to_nodes() -> None:
    sent = {*AGENT_MODULES, *COMMAND_MONITOR_MODULES}
    assert {path.stem for path in AGENT_FILES} - {"__init__"} == {name for name in sent if "." not in name}


def test_the_packaged_constraints_are_those_of_the_repository() -> None:
    packaged = ROOT / "giblet_tui" / "constraints.txt"
    assert packaged.read_bytes() == (ROOT / "constraints.txt").read_bytes()
