"""docs/your-study.md: the commands of each layout run, the proposed table is the true one, and no file is accused."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from giblet_train.cli.app import app
from giblet_train.data.simulation.study_layouts import LAYOUTS
from giblet_train.schema.config_loader import load
from tests.paths import ROOT

GUIDE = (ROOT / "docs" / "your-study.md").read_text()
NEAR_S, NEAR_TRS = 2.0, 1.0
"""An onset that is neither 0 nor stated is measured to this precision."""


def commands(layout: str) -> list[list[str]]:
    """Return the commands of a layout as the engine takes them: on this machine, `giblet data` only passes them on."""
    section = GUIDE[GUIDE.index("## Layouts") :]
    lines = re.findall(rf"^    (?:python -m giblet_train|giblet) (.*\b{layout}\b.*)$", section, re.M)
    return [shlex.split(line.replace(" local ", " ")) for line in lines]


def table(text: str) -> dict[tuple[str, int], tuple[str, str, float]]:
    """Return (file, number of the presentation in it) -> subject, stimulus and onset."""
    rows: dict[tuple[str, int], tuple[str, str, float]] = {}
    for row in csv.DictReader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t"):
        number = sum(path == row["bold"] for path, _ in rows)
        onset_s = 0.0 if row["scan_onset_s"] == "." else float(row["scan_onset_s"])
        rows[row["bold"], number] = row["subject"], row["stimulus"], onset_s
    return rows


def test_every_layout_is_in_the_guide() -> None:
    assert set(re.findall(r"--layout (\w+)", GUIDE)) - {"list"} == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_commands_of_a_layout(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = {}
    for argv in commands(layout):
        result = CliRunner().invoke(app, [*argv], catch_exceptions=False)
        assert result.exit_code == 0, (argv, result.output)
        outputs[argv[0] if argv[0] != "data" else argv[1]] = result.stdout
    assert set(outputs) == {"simulate", "discover", "show"}
    config = load(tmp_path / f"{layout}.yaml", folders=(ROOT / "configs",)).config
    truth = json.loads((tmp_path / layout / "truth.json").read_text())
    near_s = max(NEAR_S, NEAR_TRS * truth["tr_s"])
    file_of = {name: s["file"] for name, s in truth["stimuli"].items()}
    proposed_of = {name: s.video or s.audio for name, s in config.data.stimuli.items()}
    true, proposal = table((tmp_path / layout / "truth.tsv").read_text()), table(config.data.runs or "")
    assert config.data.tr == truth["tr_s"] and set(true) == set(proposal)
    for key, (subject, stimulus, onset_s) in true.items():
        own_subject, own_stimulus, own_onset_s = proposal[key]
        assert (own_subject, proposed_of.get(own_stimulus)) == (subject, file_of.get(stimulus)), key
        assert own_onset_s == (pytest.approx(onset_s, abs=near_s) if onset_s > 0 else onset_s), key
    assert table(outputs["show"]) == proposal
    accusations = [line for line in outputs["discover"].splitlines() if line.startswith(("✖", "!"))]
    assert accusations == []
