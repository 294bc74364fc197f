"""Facts about the repository that no tool checks: what runs on nodes, and files that must agree."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
import yaml

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
    modules = {*AGENT_MODULES, *COMMAND_MONITOR_MODULES}
    assert {path.stem for path in AGENT_FILES} - {"__init__"} == {name for name in modules if "." not in name}


def test_the_packaged_constraints_are_those_of_the_repository() -> None:
    copy_path = ROOT / "giblet_tui" / "constraints.txt"
    assert copy_path.read_bytes() == (ROOT / "constraints.txt").read_bytes()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OLDEST, NEWEST = (3, 11), (3, 13)
BUILD = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('dist'); build_wheel('dist')"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build sdist and wheel from a copy of what a clone contains; return both files."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("giblet_train", "giblet_tui"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=False)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = subprocess.run([sys.executable, "-c", BUILD], cwd=tree, capture_output=True, text=True, timeout=300)
    assert build.returncode == 0, build.stderr
    [sdist], [wheel] = (tree / "dist").glob("*.tar.gz"), (tree / "dist").glob("*.whl")
    return sdist, wheel


def test_the_wheel_needs_no_torch_and_has_all_that_is_read_at_run_time(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
        facts = message_from_string(wheel.read(next(n for n in names if n.endswith("/METADATA"))).decode())
    requirements = [line for line in facts.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[<>=]", line)[0] for line in requirements} == {
        *("msgspec", "numpy", "paramiko", "pyyaml", "rich", "textual", "typer"),
    }
    assert set(facts.get_all("Provides-Extra", [])) >= {"train", "docs", "picture"}
    suffixes = (".yaml", ".css", ".tcss", ".csv", ".pyi")
    data_files = {str(p.relative_to(ROOT)) for n in ("giblet_train", "giblet_tui") for p in (ROOT / n).rglob("*.*")}
    assert {name for name in data_files if name.endswith(suffixes)} - names == set()
    assert "giblet_tui/constraints.txt" in names and not any(name.startswith("tests/") for name in names)


def test_a_wheel_can_be_built_from_the_sdist(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(distributions[1]) as wheel:
        modules = {name for name in wheel.namelist() if not re.search(r"\.dist-info/", name)}
    assert modules - sources == set()
    assert {"pyproject.toml", "README.md", "LICENSE"} <= sources


def test_the_wheel_runs_where_only_its_requirements_are(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    """The command line and the dashboard's module start from the unpacked wheel, and nothing imports torch."""
    with zipfile.ZipFile(distributions[1]) as wheel:
        wheel.extractall(tmp_path / "wheel")
    hide = "import sys; sys.modules.update(dict.fromkeys(['torch', 'nibabel', 'av', 'safetensors', 'tokenizers']));"
    program = (
        f"{hide} import giblet_tui; assert giblet_tui.__file__.startswith({str(tmp_path)!r});"
        " import giblet_tui.dashboard.app; from giblet_tui.cli import main; sys.argv[1:] = ['config', 'ls']; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "wheel"), "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "wheel" / "giblet_train" / "configs" / "demo.yaml") in result.stdout


def test_every_supported_python_reads_every_module() -> None:
    """A grammar newer than that of the oldest Python that pyproject.toml names is found without having that Python."""
    assert PROJECT["requires-python"] == f">={OLDEST[0]}.{OLDEST[1]}"
    for package in ("giblet_train", "giblet_tui"):
        for path in (ROOT / package).rglob("*.py"):
            ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=OLDEST)
    with pytest.raises(SyntaxError):
        ast.parse("type X = int", feature_version=OLDEST)
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    versions = [f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    assert matrix["python"] == versions
    assert [c for c in PROJECT["classifiers"] if "Python :: 3." in c] == [
        f"Programming Language :: Python :: {version}" for version in versions
    ]


def test_version_citation_and_changelog_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert (newest[1], newest[2]) == (citation["version"], str(citation["date-released"]))
    assert PROJECT["version"] == citation["version"]
