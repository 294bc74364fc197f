"""A run's screen as a picture and its records as a table: what is in them, and what the verb refuses."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from giblet_train.contract.config import COMPONENTS
from giblet_tui.dashboard.picture import run_screen
from giblet_tui.export import FIELDS, csv_text
from tests import fleets, rundirs

GIBLET = Path(sys.executable).with_name("giblet")


def test_every_record_is_a_row_with_its_own_figures() -> None:
    run = fleets.run(steps=60, nan_from=50)
    rows = list(csv.DictReader(csv_text(run).splitlines()))
    assert tuple(rows[0]) == FIELDS
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert (len(steps), len(epochs)) == (60, 3)
    assert [float(row["fmri"]) for row in steps] == [step.loss["fmri"] for step in run.steps]
    assert steps[49]["audio"] != "nan" and steps[50]["audio"] == "nan" and steps[50]["total"] == "nan"
    held_out = run.epochs[0].validation
    assert held_out is not None
    assert {c: float(epochs[0][f"validation_{c}"]) for c in COMPONENTS} == held_out.loss
    assert steps[0]["validation_total"] == "" and float(steps[0]["weight_fmri"]) == run.steps[0].weight["fmri"]


def test_the_picture_shows_the_run_asked_for_and_calls_nobody() -> None:
    fleet = fleets.several()
    flat = fleet.nodes[0].runs[1].run.run_id
    drawn = run_screen(fleet, flat, 120, 40, clock=lambda: fleets.NOW + 1)
    words = "".join(ElementTree.fromstring(drawn).itertext()).replace("\u00a0", " ")
    assert "flat on tensor01" in words.replace("\n", "") and "balance" in words
    assert "@font-face" not in drawn and "url(http" not in drawn


def test_the_verb_writes_both_and_refuses_in_words(tmp_path: Path) -> None:
    environment = {key: str(tmp_path) for key in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME", "HOME")}
    run = fleets.run(steps=40)
    rundirs.write(tmp_path, replace(run, run=replace(run.run, launched_at=time.time() - 60)))

    def giblet(*words: str) -> subprocess.CompletedProcess[str]:
        command = [GIBLET, "export", *words]
        env = {**environment, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    done = giblet("demo", "--svg", "out/run.svg", "--csv", "run.csv", "--size", "80x24")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["out/run.svg", "run.csv"]
    assert ElementTree.parse(tmp_path / "out" / "run.svg").getroot().tag.endswith("svg")
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 43
    assert giblet("demo").returncode == 2
    refused = giblet("demo", "--svg", "x.svg", "--size", "9999x1")
    assert refused.returncode == 2 and "--size" in refused.stderr and not (tmp_path / "x.svg").exists()


@pytest.mark.parametrize("light", [False, True])
def test_the_background_is_the_theme_s(light: bool) -> None:
    run = fleets.healthy().runs()[0].run.run_id
    drawn = run_screen(fleets.healthy(), run, 60, 15, light=light, clock=lambda: fleets.NOW + 1)
    assert ("#121212" in drawn) != light
