"""Each planted fault is named with its amount, and nothing else is reported."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.discover.proposal import Proposal, discover
from giblet_train.data.simulation.generated_film import SMALL, generated_film
from giblet_train.data.simulation.layout_study import simulate_layout
from giblet_train.schema.errors import DataError
from tests.studies import copied, cut, edit, exchange, late, move_annotations, standardised

TRUE = {("cropped_start", "sub-02", "6 TRs (9 s)"), ("cropped_end", "sub-04", "20 TRs (30 s)")}
"""What the layout itself contains: finding, subject, amount."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("layout") / "sherlock"
    simulate_layout(out, "sherlock")
    return out / "study"


def scan(study: Path, subject: str, part: int) -> Path:
    return study / f"sub-{subject}/func/sub-{subject}_task-sherlockPart{part}_bold.nii.gz"


def findings(folder: Path) -> tuple[Proposal, set[tuple[str, str]]]:
    """Return the proposal, and name and subject of each finding that the layout itself does not have."""
    proposal = discover(folder, lambda _sentence, _share: None)
    own = {(kind, subject) for kind, subject, _ in TRUE}
    return proposal, {(f.finding, f.subject) for f in proposal.findings} - own


def sentence(proposal: Proposal, finding: str, subject: str = "") -> str:
    return next(f.sentence for f in proposal.findings if (f.finding, f.subject) == (finding, subject))


def onsets(proposal: Proposal) -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Return (subject, task) -> stimuli and onsets."""
    return {(r.subject[4:], r.task[-1]): [(p.stimulus[-1], p.onset_s) for p in r.presentations] for r in proposal.runs}


def test_exchanged_runs_and_a_wrong_header(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    exchange(scan(folder, "01", 1), scan(folder, "01", 2))
    edit(scan(folder, "03", 1), lambda volumes: volumes, tr_s=3.0)
    proposal, names = findings(folder)
    assert names == {("run_swapped", "sub-01"), ("wrong_tr", "sub-03")}
    assert "exchanged with sub-01 task-sherlockPart2" in sentence(proposal, "run_swapped", "sub-01")
    assert "the header says 3 s, the TR of most scans is 1.5 s" in sentence(proposal, "wrong_tr", "sub-03")
    assert onsets(proposal)["01", "1"] == [("2", 0.0)] and onsets(proposal)["01", "2"] == [("1", 0.0)]
    assert proposal.trust_tr == "config"


def test_a_late_run_a_copy_and_a_missing_run(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    edit(scan(folder, "01", 1), late(8))
    scan(folder, "03", 2).unlink()
    scan(folder, "03", 2).write_bytes(scan(folder, "01", 2).read_bytes())
    scan(folder, "04", 1).unlink()
    proposal, names = findings(folder)
    assert names == {
        ("late_run", "sub-01"),
        ("cropped_end", "sub-01"),
        ("duplicate", "sub-03"),
        ("missing_run", "sub-03"),
        ("missing_run", "sub-04"),
    }
    assert "begins 8 TRs (12 s) later, at second 12" in sentence(proposal, "late_run", "sub-01")
    assert "sub-03 task-sherlockPart2 and sub-01 task-sherlockPart2 are the same scan" in sentence(
        proposal, "duplicate", "sub-03"
    )
    assert onsets(proposal)["01", "1"] == [("1", 12.0)] and ("03", "2") not in onsets(proposal)
    assert proposal.failed


def test_exchanged_films_a_crop_and_a_damaged_scan(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    exchange(folder / "stimuli/sherlockPart1.mp4", folder / "stimuli/sherlockPart2.mp4")
    edit(scan(folder, "03", 2), lambda volumes: volumes[..., 6:])
    cut(scan(folder, "01", 1))
    proposal, names = findings(folder)
    assert names == {
        ("stimulus_swapped", ""),
        ("cropped_start", "sub-03"),
        ("unreadable_file", "sub-01"),
        ("missing_run", "sub-01"),
    }
    assert "the first 6 TRs (9 s) are missing" in sentence(proposal, "cropped_start", "sub-03")
    assert "is truncated" in sentence(proposal, "unreadable_file", "sub-01")
    assert onsets(proposal)["03", "2"] == [("1", -9.0)]


def test_exchanged_subjects_and_annotations_that_are_late(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    exchange(scan(folder, "01", 1), scan(folder, "03", 1))
    move_annotations(folder / "stimuli/annotations.xlsx", 12.0, (130, 150))
    proposal, names = findings(folder)
    assert names == {("subject_swapped", "sub-01"), ("subject_swapped", "sub-03"), ("annotations_shifted", "")}
    assert "sub-01 task-sherlockPart1 shows the brain of sub-03" in sentence(proposal, "subject_swapped", "sub-01")
    of_path = {run.bold.name: run.subject for run in proposal.runs}
    assert of_path["sub-01_task-sherlockPart1_bold.nii.gz"] == "sub-03"
    assert of_path["sub-03_task-sherlockPart1_bold.nii.gz"] == "sub-01"
    assert of_path["sub-01_task-sherlockPart2_bold.nii.gz"] == "sub-01"
    late_texts = [f.sentence for f in proposal.findings if f.finding == "annotations_shifted"]
    assert [text.split(": ")[0] for text in late_texts] == [
        f"The annotations of sherlockPart{n} (annotations.xlsx) begin 12 s too late" for n in (1, 2)
    ]


def test_another_film_and_exchanged_axes(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    film = folder / "stimuli/sherlockPart2.mp4"
    film.unlink()
    generated_film(film, 225.0, 987, form=SMALL)
    edit(scan(folder, "03", 1), lambda volumes: np.swapaxes(volumes, 0, 2))
    proposal, names = findings(folder)
    assert names == {
        ("stimulus_foreign", ""),
        ("run_unlike", "sub-03"),
        ("other_brain", "sub-03"),
    }
    assert "task-sherlockPart2: the runs agree with each other" in sentence(proposal, "stimulus_foreign")


def test_runs_that_all_begin_late_in_their_film(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    for subject in ("01", "02", "03", "04"):
        edit(scan(folder, subject, 2), lambda volumes: volumes[..., 6:])
    proposal, names = findings(folder)
    assert names == {("stimulus_earlier", "")}
    assert sentence(proposal, "stimulus_earlier").endswith("the scans begin 9 s into sherlockPart2.")
    assert {onsets(proposal)[s, "2"][0] for s in ("01", "02", "03", "04")} == {("2", -9.0)}


def test_standardised_scans_have_no_mean_volume_to_compare(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    for path in sorted(folder.glob("sub-*/func/*.nii.gz")):
        edit(path, standardised)
    exchange(scan(folder, "01", 1), scan(folder, "03", 1))
    assert findings(folder)[1] == set()


def test_a_film_that_is_missing_leaves_its_runs_without_a_stimulus(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    (folder / "stimuli/sherlockPart2.mp4").unlink()
    proposal, names = findings(folder)
    assert names == {("no_stimulus", "")}
    assert "task-sherlockPart2: 4 runs follow no stimulus" in sentence(proposal, "no_stimulus")
    assert {start for key, start in ((k, v[0][0] if v else "") for k, v in onsets(proposal).items())} == {"1", ""}
    assert proposal.texts["sherlockPart1"].scan == 1 and set(proposal.texts) == {"sherlockPart1"}


def test_arrays_without_a_tr_need_one(study: Path, tmp_path: Path) -> None:
    folder = copied(study, tmp_path / "study")
    for path in sorted(folder.glob("sub-*/func/*Part1*.nii.gz")):
        values = np.asarray(nibabel.load(path).dataobj)
        brain = values[values.any(axis=-1)]
        np.save(path.with_name(path.name.replace(".nii.gz", ".npy")), brain[:40].T.astype(np.float32))
    for path in folder.glob("sub-*/func/*.nii.gz"):
        path.unlink()
    (folder / "stimuli/sherlockPart2.mp4").unlink()
    with pytest.raises(DataError, match="No scan states its TR"):
        discover(folder, lambda _sentence, _share: None)
    proposal = discover(folder, lambda _sentence, _share: None, 1.5)
    assert (proposal.tr_s, len(proposal.runs), proposal.failed) == (1.5, 4, False)


@pytest.mark.parametrize(
    ("pattern", "message"), [("*.nii.gz", "has no scan"), ("stimuli/*.*", "has no film, no sound and no annotations")]
)
def test_a_folder_without_scans_or_films_is_refused(study: Path, tmp_path: Path, pattern: str, message: str) -> None:
    folder = copied(study, tmp_path / "study")
    for path in folder.rglob(pattern):
        path.unlink()
    with pytest.raises(DataError, match=message):
        discover(folder, lambda _sentence, _share: None)
