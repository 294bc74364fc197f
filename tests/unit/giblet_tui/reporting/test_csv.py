"""A run's screen as a picture and its records as a table: what is in them, and what the verb refuses."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace
from textual.theme import Theme

from giblet_train.schema.config import COMPONENTS
from giblet_train.schema.errors import ConfigError
from giblet_tui.dashboard.screenshots.glyph_shapes import shapes
from giblet_tui.dashboard.screenshots.png import MARGIN, png_bytes
from giblet_tui.dashboard.screenshots.render import Picture, run_picture
from giblet_tui.dashboard.screenshots.svg import svg_text
from giblet_tui.dashboard.style import themes
from giblet_tui.reporting.csv import csv_text, fields
from tests import fleets, rundirs

GIBLET = Path(sys.executable).with_name("giblet")


def test_every_record_is_a_row_with_its_own_figures() -> None:
    run = fleets.run(steps=60, nan_from=50)
    rows = list(csv.DictReader(csv_text(run).splitlines()))
    assert tuple(rows[0]) == fields()
    steps = [row for row in rows if row["kind"] == "step"]
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert (len(steps), len(epochs)) == (60, 3)
    assert [float(row["fmri"]) for row in steps] == [step.loss["fmri"] for step in run.steps]
    assert steps[49]["audio"] != "nan" and steps[50]["audio"] == "nan" and steps[50]["total"] == "nan"
    held_out = run.epochs[0].validation
    assert held_out is not None
    assert {c: float(epochs[0][f"validation_{c}"]) for c in COMPONENTS} == held_out.loss
    assert steps[0]["validation_total"] == "" and float(steps[0]["weight_fmri"]) == run.steps[0].weight["fmri"]


def picture(run_index: int = 0, columns: int = 120, rows: int = 40, **options: Any) -> Picture:
    fleet = fleets.several()
    run_id = fleet.nodes[0].runs[run_index].run.run_id
    return run_picture(fleet, run_id, columns, rows, clock=lambda: fleets.NOW + 1, **options)


def words(drawing: Picture) -> str:
    return "\n".join("".join(run.text for run in row) for row in drawing.rows)


def test_the_picture_shows_the_run_asked_for_and_calls_nobody() -> None:
    drawing = picture(1)
    assert "flat f1a7 on tensor01" in words(drawing) and "balance" in words(drawing)
    svg = svg_text(drawing)
    texts = [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]
    assert "balance" in texts and "tensor01" in texts
    assert not any(shapes(character) for text in texts for character in text or ""), (
        "braille and blocks are drawn, not written"
    )
    assert "url(" not in svg and "href" not in svg and "@font-face" not in svg


def test_one_panel_fills_the_picture() -> None:
    drawing = picture(panel="fmri", columns=60, rows=15)
    assert drawing.columns == 60 and "fMRI" in words(drawing)
    assert "balance" not in words(drawing) and "live" not in words(drawing)
    with pytest.raises(ConfigError, match="no panel fmir"):
        picture(panel="fmir")


def test_the_png_holds_what_the_cells_show() -> None:
    pixels = pytest.importorskip("PIL.Image", reason="pip install 'giblet[picture]'")
    pytest.importorskip("fontpkg_jetbrains_mono")
    drawing = picture(columns=80, rows=24)
    image = pixels.open(io.BytesIO(png_bytes(drawing)))
    half = MARGIN // 2
    assert image.format == "PNG" and image.size == (80 * 10 + 2 * half, 24 * 20 + 2 * half)
    rgb = image.convert("RGB")
    for y, row in enumerate(drawing.rows):
        for run in row:
            inside = (half + run.column * 10, half + y * 20, half + (run.column + run.width) * 10, half + (y + 1) * 20)
            colours = {colour for _, colour in rgb.crop(inside).getcolors(10_000)}
            blank = not run.text.strip(" \u00a0")
            assert blank == (len(colours) == 1), (run, colours)


def test_the_verb_writes_both_and_refuses_in_words(tmp_path: Path) -> None:
    environment = {key: str(tmp_path) for key in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "GIBLET_HOME", "HOME")}
    run = fleets.run(steps=40)
    rundirs.write(tmp_path, replace(run, run=replace(run.run, launched_at=time.time() - 60)))

    def giblet(*words: str) -> subprocess.CompletedProcess[str]:
        command = [GIBLET, "export", *words]
        env = {**environment, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    (tmp_path / "out").mkdir()
    result = giblet("demo", "--svg", "out/run.svg", "--csv", "run.csv", "--size", "80x24", "--panel", "total")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["out/run.svg", "run.csv"]
    assert ElementTree.parse(tmp_path / "out" / "run.svg").getroot().tag.endswith("svg")
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 43
    assert giblet("demo").returncode == 2
    refusal = giblet("demo", "--svg", "x.svg", "--size", "9999x1")
    assert refusal.returncode == 2 and "--size" in refusal.stderr and not (tmp_path / "x.svg").exists()


@pytest.mark.parametrize("theme", themes.OWN_THEMES, ids=lambda theme: theme.name)
def test_the_background_is_the_theme_s(theme: Theme) -> None:
    ground = "#{:02x}{:02x}{:02x}".format(*picture(columns=60, rows=15, theme=theme.name).ground)
    assert ground == theme.background
