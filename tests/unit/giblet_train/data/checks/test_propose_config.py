"""Proposed configurations: valid, complete for the study in the folder; missing files are refused with a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from giblet_train.data.checks.propose_config import propose_config
from giblet_train.data.readers.study_files import find_sources
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import load
from giblet_train.schema.errors import ConfigError, DataError
from tests.bids_study import write_bids_study
from tests.paths import ROOT


def proposed(folder: Path, name: str = "mine") -> Config:
    path = folder.parent / f"{name}.yaml"
    path.write_text(propose_config(folder, name))
    return load(path, folders=(ROOT / "configs",)).config


def test_a_folder_with_one_file_per_subject(tiny_study: Path) -> None:
    config = proposed(tiny_study)
    sources = find_sources(config, Path(config.data.data_dir))
    assert (sources.film.name, sources.annotations[0].name, len(sources.bold)) == ("film.mp4", "annotations.xlsx", 3)
    assert config.data.tr == 1.5 and config.data.bold == "bold/sub-{subject}.nii.gz"
    assert {criterion.kind for criterion in config.criteria.values()} == {
        "loss_drop",
        "beats_null",
        "reconstruction_skill",
    }


def test_names_may_contain_other_numbers(tiny_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "my study"
    (study / "nii").mkdir(parents=True)
    shutil.copy(tiny_study / "film.mp4", study / "film 2.mp4")
    shutil.copy(tiny_study / "annotations.xlsx", study)
    for subject in (1, 2, 12):
        shutil.copy(tiny_study / "bold" / "sub-01.nii.gz", study / "nii" / f"run1_s{subject}_3mm.nii.gz")
    config = proposed(study)
    assert config.data.bold == "nii/run1_s{subject}_3mm.nii.gz"
    assert len(find_sources(config, study).bold) == 3
    assert propose_config(study, "mine").startswith("# 3 subjects")


def test_fmriprep_derivatives_with_two_runs(tiny_study: Path, tmp_path: Path) -> None:
    study = write_bids_study(tmp_path / "fmriprep")
    shutil.copy(tiny_study / "film.mp4", study)
    config = proposed(study)
    assert (config.data.layout, config.data.bids.task) == ("bids", "film")
    assert config.data.annotations == "task-film_run-{run}_events.tsv"
    assert config.data.scan_lengths_trs is not None and len(config.data.scan_lengths_trs) == 2
    assert len(find_sources(config, study).bold) == 2


def test_a_tr_in_milliseconds_is_read_as_seconds(tiny_study: Path, tmp_path: Path) -> None:
    study = tmp_path / "ms"
    (study / "bold").mkdir(parents=True)
    shutil.copy(tiny_study / "film.mp4", study)
    shutil.copy(tiny_study / "annotations.xlsx", study)
    image = nibabel.Nifti1Image(np.ones((2, 2, 2, 20), np.float32), np.eye(4))
    image.header.set_zooms((3, 3, 3, 2000))
    image.header.set_xyzt_units("mm", "msec")
    nibabel.save(image, study / "bold" / "sub-01.nii.gz")
    assert proposed(study).data.tr == 2.0


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [("film.mp4 annotations.xlsx", "no film, no sound and no annotations"), ("bold", "no 4-D NIfTI")],
)
def test_what_is_missing_is_named(tiny_study: Path, tmp_path: Path, missing: str, sentence: str) -> None:
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    for path in (study / name for name in missing.split()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=sentence):
        propose_config(study, "mine")


def test_a_bad_name_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        propose_config(tmp_path, "Mine!")
    with pytest.raises(ConfigError, match="no folder"):
        propose_config(tmp_path / "none", "mine")
