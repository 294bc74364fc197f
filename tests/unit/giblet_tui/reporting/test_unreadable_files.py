"""Records of a run that cannot be read: told by file, fault, place and remedy, and never as a run that is well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_train.schema.run_dir import RunDir
from tests import fleets, rundirs
from tests.fork_server import giblet_server

GIBLET = Path(sys.executable).with_name("giblet")
Giblet = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def giblet(tmp_path: Path) -> Giblet:
    folders = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "GIBLET_HOME": "work", "HOME": "user"}
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIBLET_")}
    environment = own | {key: str(tmp_path / folder) for key, folder in folders.items()}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return giblet_server().run(words, environment, tmp_path, 60)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    """Return a run of this machine that finished well."""
    return rundirs.write(tmp_path / "work", fleets.run("demo"), code=0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def misspell(path: Path) -> None:
    path.write_text("num_epochs: [1\n" + path.read_text())


@pytest.mark.parametrize(
    ("name", "damage", "fault"),
    [
        ("run.json", cut, "Not a Run record: Input data was truncated"),
        ("config.yaml", misspell, "config.yaml, line 2"),
        ("config.yaml", Path.unlink, "It is not there."),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_fault_place_and_remedy(
    giblet: Giblet, folder: RunDir, name: str, damage: Callable[[Path], None], fault: str
) -> None:
    damage(folder.path / name)
    why, report = giblet("why", "demo"), giblet("report", "demo")
    for result in (why, report):
        assert f"{name} cannot be read" in result.stderr and fault in result.stderr
        assert f"It is local:{folder.path}/{name}. Repair it there" in result.stderr
        assert str(folder.path) not in result.stdout
    assert why.returncode != 0
    assert "as far as the records show" not in why.stdout


def test_damaged_lines_are_counted_next_to_those_that_are_read(giblet: Giblet, folder: RunDir) -> None:
    lines = folder.metrics.read_bytes().splitlines()
    folder.metrics.write_bytes(b"\n".join([*lines[:4], b"{", *lines[4:], b"no record"]) + b"\n")
    sentence = f"metrics.jsonl: 2 lines are no records; the other {len(lines)} are read."
    for verb in ("status", "verdict"):
        assert sentence in giblet(verb, "demo").stderr
    here = giblet("why", str(folder.path))
    assert f"2 lines are no records (the first is line 5); the other {len(lines)} are read." in here.stderr
    notes = json.loads(giblet("why", "demo", "--json").stdout)["notes"]
    assert any(sentence in note for note in notes)


def test_a_copied_folder_hides_no_run(giblet: Giblet, folder: RunDir) -> None:
    copy = folder.path.with_name(folder.run_id[:-4] + "c0c0")
    copy.mkdir()
    (copy / "run.json").write_bytes(folder.run.read_bytes())
    states = {run["run_id"]: run["state"] for run in json.loads(giblet("ps", "-a", "--json").stdout)["runs"]}
    assert states == {folder.run_id: "finished", copy.name: "unknown"}
    assert f"It is {folder.run_id}'s: the folder was copied or renamed." in giblet("why", copy.name).stderr


def test_a_folder_here_that_holds_no_run_is_distinguished_from_a_damaged_one(
    giblet: Giblet, folder: RunDir, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    empty = giblet("why", "empty")
    assert empty.returncode == 2 and "is no run directory: it has neither run.json nor config.yaml" in empty.stderr
    misspell(folder.config)
    result = giblet("why", str(folder.path))
    assert result.returncode == 2
    assert f"{folder.config}, line 2" in result.stderr
    assert f"Bring it again: giblet pull {folder.run_id} --logs" in result.stderr
