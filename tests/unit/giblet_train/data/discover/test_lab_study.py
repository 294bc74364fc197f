"""The lab's own study: both parts in one file per subject, one workbook whose seconds restart."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.discover.proposal import Proposal, discover
from giblet_train.data.discover.report import report_lines, to_config
from giblet_train.data.simulation.layout_study import simulate_layout
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.config_loader import load
from tests.paths import ROOT

SUBJECTS = {"1": "01", "2": "03", "3": "04"}
"""Number in the lab's files -> subject of the layout; the last one's part 2 is 20 TRs shorter."""


def silent(_sentence: str, _share: float) -> None:
    pass


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study_folder = tmp_path_factory.mktemp("layout") / "sherlock"
    simulate_layout(study_folder, "sherlock")
    folder = tmp_path_factory.mktemp("lab")
    for number, subject in SUBJECTS.items():
        parts = [
            nibabel.load(study_folder / f"study/sub-{subject}/func/sub-{subject}_task-sherlockPart{n}_bold.nii.gz")
            for n in (1, 2)
        ]
        series = np.concatenate([np.asarray(part.dataobj) for part in parts], axis=-1)
        path = folder / f"sherlock_nii/sherlock_movie_s{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(series, parts[0].affine, parts[0].header), path)
    for n in (1, 2):
        (study_folder / f"study/stimuli/sherlockPart{n}.mp4").rename(folder / f"part{n}.mp4")
    (study_folder / "study/stimuli/annotations.xlsx").rename(folder / "annotations.xlsx")
    return folder


def rows(proposal: Proposal) -> dict[str, tuple[str, ...]]:
    """Return the end of each path -> its stimuli."""
    return {
        r.bold.name.removeprefix("sherlock_movie_"): tuple(p.stimulus for p in r.presentations) for r in proposal.runs
    }


def test_both_parts_are_used_if_both_films_are_there(study: Path, tmp_path: Path) -> None:
    proposal = discover(study, silent)
    assert rows(proposal) == {
        **{f"s{n}.nii.gz::0-129": ("part1",) for n in "123"},
        **{f"s{n}.nii.gz::130-279": ("part2",) for n in "12"},
        "s3.nii.gz::130-259": ("part2",),
    }
    assert {p.onset_s for run in proposal.runs for p in run.presentations} == {0.0}
    assert {name: text.scan for name, text in proposal.texts.items()} == {"part1": 1, "part2": 2}
    assert [(f.finding, f.severity) for f in proposal.findings] == [("cropped_end", "info")]
    (tmp_path / "lab.yaml").write_text(to_config(proposal, "lab"))
    config = load(tmp_path / "lab.yaml", folders=(ROOT / "configs",)).config
    request = DataRequest(config, tmp_path)
    store = open_store(build_store(config, request.data_dir, tmp_path, silent))
    assert dict(zip(store.block_names, store.scan_lengths_trs, strict=True)) == {"part1": 130, "part2": 150}
    assert {s: int(store.present_T(s).sum()) for s in store.subjects} == {"sub-1": 280, "sub-2": 280, "sub-3": 260}
    assert all(label for label in (store.text_labels[3], store.text_labels[133]))


def test_part_1_is_used_if_only_its_film_is_there(study: Path) -> None:
    (study / "part2.mp4").rename(study / "aside")
    try:
        proposal = discover(study, silent)
    finally:
        (study / "aside").rename(study / "part2.mp4")
    assert {name: parts for name, parts in rows(proposal).items() if parts} == {
        f"s{n}.nii.gz::0-129": ("part1",) for n in "123"
    }
    assert {name: text.scan for name, text in proposal.texts.items()} == {"part1": 1}
    assert any("run-2: 3 runs follow no stimulus" in line for line in report_lines(proposal))
