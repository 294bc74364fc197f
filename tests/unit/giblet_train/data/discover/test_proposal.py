"""Proposals of small folders: studies without a film, confounds next to the scans, TRs that files do not state."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.discover.proposal import discover
from giblet_train.data.discover.report import to_config
from giblet_train.data.simulation.generated_film import generated_sound
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import load
from giblet_train.schema.errors import DataError
from tests.paths import ROOT

N_TRS = 40
"""Volumes of each scan, at 2 s."""


def quiet(_sentence: str, _share: float) -> None:
    pass


def write_scan(path: Path, seed: int, tr_s: float = 2.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).standard_normal((4, 4, 4, N_TRS)) + 100
    image = nibabel.Nifti1Image(values.astype(np.float32), np.diag([3, 3, 3, 1]))
    image.header.set_zooms((3, 3, 3, tr_s))
    nibabel.save(image, path)


def write_confounds(path: Path, columns: str) -> None:
    names = columns.split()
    path.write_text("\n".join(["\t".join(names), *["\t".join("0.1" for _ in names)] * N_TRS, ""]))


def proposed(folder: Path, tr_s: float | None = None) -> Config:
    path = folder.parent / "mine.yaml"
    path.write_text(to_config(discover(folder, quiet, tr_s), "mine"))
    return load(path, folders=(ROOT / "configs",)).config


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a folder with a sound and derivatives of two subjects."""
    folder = tmp_path / "study"
    for n, subject in enumerate(("a", "b")):
        stem = folder / f"sub-{subject}/func/sub-{subject}_task-dune"
        write_scan(Path(f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"), n)
        write_confounds(Path(f"{stem}_desc-confounds_timeseries.tsv"), "trans_x rot_x csf framewise_displacement")
    generated_sound(folder / "dune.wav", N_TRS * 2.0)
    return folder


def test_confounds_that_all_scans_have_are_regressed_out(study: Path) -> None:
    assert proposed(study).data.bids.confounds == ("trans_*", "rot_*", "csf")
    (study / "sub-b/func/sub-b_task-dune_desc-confounds_timeseries.tsv").unlink()
    assert not proposed(study).data.bids.confounds


def test_a_folder_without_films_and_sounds_goes_by_its_annotations(study: Path) -> None:
    (study / "dune.wav").unlink()
    with pytest.raises(DataError, match="no film, no sound and no annotations"):
        discover(study, quiet)
    rows = "".join(f"{s},{s + 4},a scene\n" for s in range(0, 2 * N_TRS, 4))
    (study / "dune.csv").write_text(f"start_s,end_s,detail\n{rows}")
    (study / "sub-a_task-dune_beh.tsv").write_text("onset\tduration\ttrial_type\n1\t1\tpress\n70\t1\tpress\n")
    data = proposed(study).data
    assert {name: (s.video, s.audio, s.annotations) for name, s in data.stimuli.items()} == {
        "dune": (None, None, "dune.csv")
    }
    assert "sub-b_task-dune" in (data.runs or "") and (data.runs or "").count("\tdune\t0") == 2


def test_a_header_that_a_sidecar_contradicts_is_overruled(study: Path) -> None:
    for n, path in enumerate(sorted(study.glob("sub-*/func/*_bold.nii.gz"))):
        write_scan(path, n, tr_s=1.0)
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps({"RepetitionTime": 2000}))
    data = proposed(study).data
    assert (data.tr, data.trust_tr) == (2.0, "sidecar")


def test_parcels_without_a_tr_ask_for_it_by_the_name_of_a_file(study: Path) -> None:
    for path in study.glob("sub-*/func/*"):
        path.unlink()
    for n, subject in enumerate("ab"):
        values = np.random.default_rng(n).standard_normal((N_TRS, 9)) + 100 * np.arange(9)
        np.save(study / f"sub-{subject}_dune.npy", values)
    with pytest.raises(DataError, match=r"sub-a_dune\.npy") as error:
        discover(study, quiet)
    assert "--tr" in error.value.remedy
    assert proposed(study, 2.0).data.tr == 2.0


def write_events(path: Path, *rows: tuple[float, str]) -> None:
    lines = ["onset\tduration\tstim_file", *(f"{onset_s}\t20\tclips/{name}" for onset_s, name in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_each_subject_has_its_own_order_of_clips_and_its_own_onsets(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for n, name in enumerate(("arrival.wav", "dune.wav")):
        (study / "stimuli/clips").mkdir(parents=True, exist_ok=True)
        generated_sound(study / "stimuli/clips" / name, 20.0, n)
    orders = {
        "a": ((4.0, "dune.wav"), (40.0, "arrival.wav")),
        "b": ((4.0, "arrival.wav"), (40.0, "dune.wav")),
        "c": ((4.6, "dune.wav"), (41.1, "arrival.wav")),
    }
    for n, (subject, order) in enumerate(orders.items()):
        stem = study / f"sub-{subject}/func/sub-{subject}_task-clips"
        write_scan(Path(f"{stem}_bold.nii.gz"), n)
        write_events(Path(f"{stem}_events.tsv"), *order)
    proposal = discover(study, quiet)
    presentations = {
        run.subject: tuple((p.onset_s, f"{p.stimulus}.wav") for p in run.presentations) for run in proposal.runs
    }
    assert presentations == {f"sub-{subject}": order for subject, order in orders.items()}
    assert not [f.finding for f in proposal.findings if f.finding == "missing_run"]


def test_runs_as_long_as_the_film_together_are_its_parts(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for n, subject in enumerate("ab"):
        for run in (1, 2):
            write_scan(study / f"sub-{subject}_task-dune_run-{run}_bold.nii.gz", 10 * n + run)
    generated_sound(study / "dune.wav", 2 * N_TRS * 2.0)
    onsets = {(run.subject, run.run): [p.onset_s for p in run.presentations] for run in discover(study, quiet).runs}
    assert onsets == {(f"sub-{s}", run): [-80.0 if run == "2" else 0.0] for s in "ab" for run in "12"}


@pytest.mark.parametrize("name", ["sub-{}_task-dune_seg-Fine_stat-mean_timeseries.tsv", "series/sub-0{}_dune.csv"])
def test_tables_of_parcels_are_scans(name: str, tmp_path: Path) -> None:
    study = tmp_path / "study"
    for n in (1, 2):
        path = study / name.format(n)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(n).standard_normal((N_TRS, 9)) + 100 * np.arange(9)
        sign = "\t" if path.suffix == ".tsv" else ","
        lines = [sign.join(f"area {k}" for k in range(9)), *(sign.join(f"{v:.4f}" for v in row) for row in values)]
        path.write_text("\n".join(lines))
        (study / f"sub-{n}_motion.tsv").write_text("trans_x\n0.1\n")
    generated_sound(study / "dune.wav", N_TRS * 2.0)
    assert [len(run.presentations) for run in discover(study, quiet, 2.0).runs] == [1, 1]


def test_bright_first_volumes_do_not_make_scans_copies_of_each_other(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for n, subject in enumerate("ab"):
        path = study / f"sub-{subject}_task-dune_bold.nii.gz"
        write_scan(path, n)
        image = nibabel.load(path)
        values = np.asarray(image.dataobj).copy()
        values[..., :3] *= np.array([1.7, 1.4, 1.2])
        nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), path)
    generated_sound(study / "dune.wav", N_TRS * 2.0)
    proposal = discover(study, quiet)
    assert len(proposal.runs) == 2 and not proposal.failed


def test_events_of_a_task_are_those_of_all_its_scans(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for n, subject in enumerate("ab"):
        write_scan(study / f"sub-{subject}/func/sub-{subject}_task-movie_bold.nii.gz", n)
    (study / "task-movie_events.tsv").write_text("onset\tduration\ttrial_type\n7\t60\tfilm\n")
    generated_sound(study / "movie.wav", 60.0)
    assert [run.presentations[0].onset_s for run in discover(study, quiet).runs] == [7.0, 7.0]


def test_subjects_without_the_version_that_is_used_are_an_error(study: Path) -> None:
    write_scan(study / "sub-c/func/sub-c_task-dune_bold.nii.gz", 7)
    proposal = discover(study, quiet)
    sentences = [f.sentence for f in proposal.findings if f.finding == "subjects_left_out"]
    assert proposal.failed and len(sentences) == 1 and sentences[0].startswith("sub-c have scans")


def test_runs_of_a_task_are_the_parts_of_its_own_language_in_their_order(tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "stimuli").mkdir(parents=True)
    parts = [(language, part, run) for language in ("EN", "FR") for part, run in enumerate(("4", "7"), 1)]
    for seed, (language, part, run) in enumerate(parts):
        generated_sound(study / f"stimuli/task-dune{language}_section-{part}.wav", N_TRS * 2.0, seed)
        write_scan(study / f"sub-{language}1_task-dune{language}_run-{run}_bold.nii.gz", seed)
    stimuli_by_run = {
        (run.subject, run.run): [p.stimulus for p in run.presentations] for run in discover(study, quiet).runs
    }
    assert stimuli_by_run == {
        (f"sub-{language}1", run): [f"task_dune{language}_section_{part}"] for language, part, run in parts
    }


def test_films_above_the_scans_are_named(study: Path) -> None:
    (study / "stimuli").mkdir()
    (study / "dune.wav").rename(study / "stimuli/dune.wav")
    with pytest.raises(DataError, match="there are films") as error:
        discover(study / "sub-a", quiet)
    assert error.value.remedy.startswith(f"Start from {study.resolve()},")


def test_a_proposal_without_a_stimulus_fails(study: Path) -> None:
    proposal = discover(study, quiet)
    assert not proposal.failed
    assert dataclasses.replace(proposal, stimuli=()).failed


def test_a_stimulus_by_name_says_when_runs_are_too_short_to_confirm_it(study: Path) -> None:
    (finding,) = [f for f in discover(study, quiet).findings if f.finding == "unverified"]
    assert "do not confirm it, but runs of 80 s are too short" in finding.sentence
