"""Files of a folder by their kind: what is a scan, what is another version of one, what cannot be read and why."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.discover.expectation import shown_by_events
from giblet_train.data.discover.inventory import Medium, Timing, explain_absence, take_inventory
from giblet_train.data.discover.names import chosen_versions, scan_names
from giblet_train.data.discover.proposal import discover
from giblet_train.data.discover.stimuli import candidates
from giblet_train.data.simulation.generated_film import generated_sound
from giblet_train.schema.errors import DataError


def write_image(path: Path, n_volumes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (2, 2, 2, n_volumes) if n_volumes > 1 else (2, 2, 2)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), path)


def chosen(*names: str) -> set[str]:
    folder = Path("/study")
    scans, others = chosen_versions(scan_names([folder / name for name in names], folder))
    assert len(scans) + len(others) == len(names)
    return {scan.path.relative_to(folder).as_posix() for scan in scans}


def test_derivatives_come_before_raw_scans_whatever_their_names_are() -> None:
    raw = [f"sub-{s}/func/sub-{s}_task-dune_run-0{r}_bold.nii.gz" for s in (1, 2) for r in (1, 2)]
    derived = [f"derivatives/sub-{s}/func/sub-{s}_task-dune_bold_blur.nii.gz" for s in (1, 2)]
    assert chosen(*raw, *derived) == set(derived)


def test_a_common_space_comes_before_the_grids_of_each_subject() -> None:
    own = [f"sub-{s}/func/sub-{s}_task-dune_space-T1w_desc-preproc_bold.nii.gz" for s in "ab"]
    common = [f"sub-{s}/func/sub-{s}_task-dune_space-MNIPediatricAsym_res-2_desc-preproc_bold.nii.gz" for s in "ab"]
    assert chosen(*own, *common) == set(common)


def test_runs_in_another_tree_are_runs_and_not_other_versions() -> None:
    name = "{}/fmriprep/sub-{}/func/sub-{}_task-{}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
    files = {name.format(tree, s, s, tree) for tree in ("dune", "solaris") for s in "12"}
    assert chosen(*files) == files


def test_words_of_processing_make_another_version_and_not_another_run() -> None:
    names = [f"10{s}/Results/tfMRI_FILM{f}/tfMRI_FILM{f}_Atlas{v}_hp2000_clean.dtseries.nii"
             for s in "12" for f in "12" for v in ("", "_MSMAll")]  # fmt: skip
    assert chosen(*names) == {name for name in names if "MSMAll" in name}


def test_dates_in_names_are_neither_subjects_nor_runs() -> None:
    folder = Path("/study")
    names = scan_names(
        [folder / f"{day}_{who}_dune.nii" for day, who in (("20240102", "KL"), ("20240311", "PR"))], folder
    )
    assert [(name.subject, name.group) for name in names] == [("KL", ("", "", "")), ("PR", ("", "", ""))]


def test_what_is_no_series_is_no_scan(tmp_path: Path) -> None:
    for name, n_volumes in {
        "sub-1/func/sub-1_task-dune_bold.nii.gz": 30,
        "sub-1/func/sub-1_task-dune_defacemask.nii.gz": 1,
        "sub-1/func/sub-1_task-dune_bold_tsnr.nii.gz": 1,
        "sub-1/func/sub-1_task-dune_part-phase_bold.nii.gz": 30,
        "sub-1/dwi/sub-1_dir-AP.nii.gz": 30,
    }.items():
        write_image(tmp_path / name, n_volumes)
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/sub-1_dune.npy", np.ones((30, 4)))
    assert [scan.path.name for scan in take_inventory(tmp_path).scans] == ["sub-1_task-dune_bold.nii.gz"]


def test_links_to_folders_are_followed_once_and_pipes_are_no_files(tmp_path: Path) -> None:
    write_image(tmp_path / "store" / "a" / "func" / "sub-1_task-dune_bold.nii.gz", 30)
    study = tmp_path / "study"
    study.mkdir()
    (study / "sub-1").symlink_to(tmp_path / "store" / "a")
    (study / "again").symlink_to(study)
    (study / "above").symlink_to(tmp_path)
    for name in ("film.mp4", "words.csv", "sub-2_task-dune_bold.nii.gz", "sub-2_events.tsv"):
        os.mkfifo(study / name)
    inventory = take_inventory(study)
    assert [scan.path for scan in inventory.scans] == [study / "sub-1" / "func" / "sub-1_task-dune_bold.nii.gz"]
    assert not (inventory.media or inventory.texts or inventory.problems)


@pytest.mark.parametrize(
    ("name", "sentence", "remedy"),
    [
        ("errts.s1+tlrc.HEAD", "is in the format of AFNI", "3dAFNItoNIFTI -prefix errts.s1.nii.gz errts.s1+tlrc.HEAD"),
        ("s1_rois.mat", "is in the format of MATLAB", "one row per volume"),
        ("f1-0001.nii", "such as f1-0001.nii, is a single volume", "fslmerge -tr"),
        ("notes.docx", "has no scan", "Give the folder"),
    ],
)
def test_the_error_says_what_the_folder_has_instead_of_scans(
    name: str, sentence: str, remedy: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"")
    if name.endswith(".nii"):
        (tmp_path / "f1_to_template.mat").write_bytes(b"")
        for n in range(1, 21):
            write_image(tmp_path / name.replace("0001", f"{n:04d}"), 1)
    error = explain_absence(take_inventory(tmp_path), tmp_path)
    assert sentence in error.message and remedy in error.remedy


def test_scans_without_content_are_named_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    generated_sound(tmp_path / "dune.wav", 1.0)
    (tmp_path / "sub-1_task-dune_bold.nii.gz").symlink_to("gone")
    with pytest.raises(DataError, match="not on this machine") as error:
        discover(tmp_path, lambda *_: None)
    assert "datalad get" in error.value.remedy


def test_echoes_that_are_not_combined_are_refused(tmp_path: Path) -> None:
    for echo in (1, 2):
        write_image(tmp_path / f"sub-1_task-dune_echo-{echo}_bold.nii.gz", 30)
    with pytest.raises(DataError, match=r"is one echo of sub-1 task-dune") as error:
        discover(tmp_path, lambda *_: None)
    assert "Combine them" in error.value.remedy


def test_one_film_in_two_formats_is_one_stimulus() -> None:
    films = [Medium(Path(name), seconds, has_pictures=True) for name, seconds in
             (("a/dune.avi", 60.1), ("a/dune.mp4", 60.0), ("a/trailer.mp4", 60.0), ("b/dune.mp4", 60.0))]  # fmt: skip
    assert [str(c.file.path) for c in candidates(films)] == ["a/dune.mp4", "a/trailer.mp4", "b/dune.mp4"]


def events(*rows: tuple[float, str]) -> list[Timing]:
    path = Path("/raw/sub-1/func/sub-1_task-dune_run-2_events.tsv")
    return [Timing(path, onset_s, None, name) for onset_s, name in rows]


def test_events_of_the_raw_tree_are_those_of_the_derivatives() -> None:
    stimuli = candidates([Medium(Path("dune.mp4"), 60.0, has_pictures=True)])
    scan = Path("/derivatives/sub-1/func/sub-1_task-dune_run-2_space-MNI_desc-preproc_bold.nii.gz")
    own_events = shown_by_events(("", "dune", "2"), [scan], stimuli, events((12.0, "dune.mp4")))
    assert [(event.stimulus, event.onset_s) for event in own_events] == [("dune", 12.0)]
    other = scan.with_name(scan.name.replace("run-2", "run-1"))
    assert not shown_by_events(("", "x", "1"), [other], stimuli, events((12.0, "dune.mp4")))


def test_scenes_of_a_film_are_no_presentations_of_it() -> None:
    stimuli = candidates([Medium(Path("dune.mp4"), 60.0, has_pictures=True)])
    scan = Path("/raw/sub-1/func/sub-1_task-dune_run-2_bold.nii.gz")
    scenes = events((6.0, "dune.mp4"), (20.0, "dune.mp4"), (40.0, "dune.mp4"))
    assert shown_by_events(("", "dune", "2"), [scan], stimuli, scenes) == []
    repeats = events((6.0, "dune.mp4"), (80.0, "dune.mp4"))
    assert len(shown_by_events(("", "dune", "2"), [scan], stimuli, repeats)) == 2


def test_the_row_of_the_film_between_fixation_and_rest_is_its_presentation(tmp_path: Path) -> None:
    generated_sound(tmp_path / "dune.wav", 1.0)
    path = tmp_path / "sub-1_task-dune_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n0\t8\tfixation\n8\t60\tfilm\n68\t8\trest\n")
    inventory = take_inventory(tmp_path)
    assert [timing.onset_s for timing in inventory.timings] == [8.0]
    path.write_text("onset\tduration\ttrial_type\n0\t8\tface\n8\t8\thouse\n")
    assert not take_inventory(tmp_path).timings and not take_inventory(tmp_path).texts
