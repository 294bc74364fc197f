"""fMRIPrep's derivatives: found by their names, read as one series, in one store with the film."""

import os
import shutil

import msgspec
import numpy as np
import pytest

from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.readers.bids import bids_runs
from giblet_train.data.readers.headers import read_header, read_headers
from giblet_train.data.readers.maps import read_mask
from giblet_train.data.readers.study_files import find_sources
from giblet_train.data.readers.volumes import nonzero_voxels, stream
from giblet_train.data.store.prepare import DataRequest
from giblet_train.data.store.show import show_table
from giblet_train.data.store.store import build_store, open_store
from giblet_train.schema.config import BidsConfig, dump
from giblet_train.schema.errors import ConfigError, DataError
from tests.bids_study import BIDS_DATA, RUN_TRS, write_bids_study, write_run
from tests.fork_server import engine_cli_server
from tests.made_study import made_config

FILM_TASK = BidsConfig(task="film")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_study):
    bids_folder = write_bids_study(tmp_path_factory.mktemp("bids"))
    (bids_folder / "film.mp4").symlink_to(tiny_study / "film.mp4")
    return bids_folder


@pytest.fixture(scope="module")
def config():
    return made_config(data=BIDS_DATA, split={"gap_trs": 4, "validation_trs": 8, "kind": "scans", "fold": 1})


@pytest.fixture(scope="module")
def study(folder, config, tmp_path_factory):
    return open_store(build_store(config, folder, tmp_path_factory.mktemp("work"), lambda *_: None))


def runs_of(folder, config=FILM_TASK):
    return {n: [(r.session, r.run) for r in runs] for n, runs in bids_runs(folder, config).items()}


def test_runs_are_found_in_order(folder):
    assert runs_of(folder) == {"01": [("", "1"), ("", "2")], "02": [("", "1"), ("", "2")]}
    second_run = bids_runs(folder, FILM_TASK)["01"][1]
    assert second_run.mask.name == "sub-01_task-film_run-2_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz"
    assert second_run.confounds.name == "sub-01_task-film_run-2_desc-confounds_timeseries.tsv"
    assert runs_of(folder, BidsConfig(task="film", runs=(2,))) == {"01": [("", "2")], "02": [("", "2")]}


def test_run_ten_comes_after_run_two_and_sessions_after_one_another(tmp_path):
    for session, run in (("10", 1), ("2", 1), ("1", 10), ("1", 2)):
        write_run(tmp_path, 3, run, 4, session)
    assert runs_of(tmp_path) == {"03": [("1", "2"), ("1", "10"), ("2", "1"), ("10", "1")]}


def test_what_is_not_there_is_reported_with_what_is(folder, tmp_path):
    with pytest.raises(DataError, match=r'of task flim, did you mean "film"\?'):
        bids_runs(folder, BidsConfig(task="flim"))
    with pytest.raises(DataError, match="No run has space T1w; there is MNI152NLin2009cAsym"):
        bids_runs(folder, BidsConfig(task="film", space="T1w"))
    with pytest.raises(DataError, match=r"sub-01 has run 1, run 2.*data\.bids\.runs asks for \[3\]|No run has space"):
        bids_runs(folder, BidsConfig(task="film", runs=(3,)))
    with pytest.raises(DataError, match=r"has no file sub-\*/func"):
        bids_runs(tmp_path, FILM_TASK)


def test_subjects_with_other_runs_and_doubled_runs_are_refused(tmp_path):
    write_run(tmp_path, 1, 1, 4)
    write_run(tmp_path, 1, 2, 4)
    write_run(tmp_path, 2, 1, 4)
    with pytest.raises(DataError, match="sub-02 has run 1, sub-01 has run 1, run 2"):
        bids_runs(tmp_path, FILM_TASK)
    assert set(bids_runs(tmp_path, BidsConfig(task="film", runs=(1,)))) == {"01", "02"}
    bold = next((tmp_path / "sub-02" / "func").glob("*_bold.nii.gz"))
    shutil.copy(bold, bold.with_name(bold.name.replace("_desc-preproc", "_res-2_desc-preproc")))
    with pytest.raises(DataError, match="sub-02 has two files of the same run") as error:
        bids_runs(tmp_path, BidsConfig(task="film", runs=(1,)))
    assert "data.bids.filters: {res: " in error.value.remedy
    runs_at_2_mm = bids_runs(tmp_path, BidsConfig(task="film", runs=(1,), filters={"res": 2}), ["02"])
    assert "_res-2_" in runs_at_2_mm["02"][0].bold.name
    plain = bids_runs(tmp_path, BidsConfig(task="film", runs=(1,), filters={"res": None}))
    assert not any("_res-" in run.bold.name for runs in plain.values() for run in runs)


def test_subjects_who_are_not_requested_are_not_looked_at(tmp_path):
    write_run(tmp_path, 1, 1, 4)
    write_run(tmp_path, 1, 2, 4)
    write_run(tmp_path, 2, 1, 4)
    for label in ("pilot", "NDARAB123"):
        func = tmp_path / f"sub-{label}" / "func"
        func.mkdir(parents=True)
        (func / f"sub-{label}_task-film_run-1_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz").touch()
    assert list(bids_runs(tmp_path, FILM_TASK, [1])) == ["01"]
    assert list(bids_runs(tmp_path, FILM_TASK, ["02", "pilot", "NDARAB123"])) == ["02", "NDARAB123", "pilot"]
    with pytest.raises(DataError, match=r"asks for anna, but .* exists only for 01, 02, NDARAB123, pilot"):
        bids_runs(tmp_path, FILM_TASK, ["anna"])


def test_several_tasks_and_other_derivatives_are_chosen_by_entities(tmp_path):
    write_run(tmp_path, 1, 1, 4)
    func = tmp_path / "sub-01" / "func"
    bold = next(func.glob("*_bold.nii.gz"))
    shutil.copy(bold, func / bold.name.replace("task-film", "task-story"))
    shutil.copy(bold, func / bold.name.replace("desc-preproc", "desc-denoised"))
    both = bids_runs(tmp_path, BidsConfig(task=("story", "film")))["01"]
    assert [run.task for run in both] == ["film", "story"]
    denoised_runs = bids_runs(tmp_path, BidsConfig(task="film", filters={"desc": "denoised"}))["01"]
    assert [run.bold.name for run in denoised_runs] == [bold.name.replace("desc-preproc", "desc-denoised")]
    with pytest.raises(DataError, match=r"unknown entity 'resolution'"):
        bids_runs(tmp_path, BidsConfig(task="film", filters={"resolution": 2}))


def test_cifti_surfaces_and_parcels_are_found_by_space_density_and_suffix(tmp_path):
    """Names as fMRIPrep and XCP-D write them, also the older order of hemi and space."""
    func = tmp_path / "sub-01" / "func"
    func.mkdir(parents=True)
    stem = "sub-01_task-film"
    names = [
        f"{stem}_space-fsLR_den-91k_bold.dtseries.nii",
        f"{stem}_space-fsLR_den-170k_bold.dtseries.nii",
        f"{stem}_hemi-L_space-fsaverage5_bold.func.gii",
        f"{stem}_hemi-R_space-fsaverage5_bold.func.gii",
        f"{stem}_space-fsLR_den-91k_desc-denoised_bold.dtseries.nii",
        f"{stem}_space-fsLR_seg-4S156Parcels_den-91k_stat-mean_timeseries.ptseries.nii",
        f"{stem}_space-MNI_seg-4S156Parcels_stat-mean_timeseries.tsv",
        f"{stem}_desc-confounds_timeseries.tsv",
    ]
    for name in names:
        (func / name).touch()

    def chosen(space, **filters):
        [run] = bids_runs(tmp_path, BidsConfig(task="film", space=space, filters=filters))["01"]
        assert run.mask is None and run.confounds.name == f"{stem}_desc-confounds_timeseries.tsv"
        return run.bold.name

    assert chosen("fsLR", den="91k", desc=None) == names[0]
    assert chosen("fsLR", den="170k") == names[1]
    assert chosen("fsaverage5") == names[2]
    assert chosen("fsLR", desc="denoised") == names[4]
    assert chosen("fsLR", suffix="timeseries") == names[5]
    assert chosen("MNI", suffix="timeseries") == names[6]
    with pytest.raises(DataError, match="two files of the same run") as error:
        bids_runs(tmp_path, BidsConfig(task="film", space="fsLR", filters={"desc": None}))
    assert error.value.remedy == "Choose one with data.bids.filters: {den: 170k}."


def test_a_table_of_runs_uses_masks_and_confounds_next_to_the_scans(folder, study, config, tmp_path):
    """The table that `data show` prints for the layout gives the same brains, masks and confounds."""
    own = msgspec.structs.replace(config.data, data_dir=folder.name)
    request = DataRequest(msgspec.structs.replace(config, data=own), folder.parent)
    (folder / "shown.tsv").write_text(show_table(request, lambda *_: None))
    stimuli = {"film": {"video": "film.mp4"}}
    data = {"runs": "shown.tsv", "stimuli": stimuli, "bids": {"confounds": ["trans_?", "csf"]}}
    table = open_store(build_store(made_config(data=data), folder, tmp_path, lambda *_: None))
    np.testing.assert_array_equal(table.mask, study.mask)
    for subject in study.subjects:
        n_trs = table.scan_lengths_trs[0]
        np.testing.assert_array_equal(table.confounds[subject][:n_trs], study.confounds[subject][:n_trs])
        raw, again = (s.bold[subject][:n_trs] + s.reference[subject] for s in (study, table))
        np.testing.assert_allclose(raw, again, atol=0.5)


def test_first_volumes_of_each_run_can_be_dropped(folder, study, tmp_path):
    config = made_config(data={**BIDS_DATA, "drop_first_trs": 3})
    again = open_store(build_store(config, folder, tmp_path, lambda *_: None))
    assert again.scan_lengths_trs == tuple(n - 3 for n in RUN_TRS)
    rows = np.r_[3 : RUN_TRS[0], RUN_TRS[0] + 3 : sum(RUN_TRS)]
    for subject in study.subjects:
        raw, rest = (s.bold[subject][:] + s.reference[subject] for s in (study, again))
        np.testing.assert_allclose(rest, raw[rows], atol=0.5)
        np.testing.assert_array_equal(again.confounds[subject], study.confounds[subject][rows])
    np.testing.assert_allclose(again.features["audio"], study.features["audio"][rows], atol=1e-2)
    n_rows = RUN_TRS[0] - 3
    assert again.text_labels[:n_rows] == tuple(study.text_labels[row] for row in rows[:n_rows])


def test_the_configuration_needs_a_task_and_the_layout():
    with pytest.raises(ConfigError, match=r"name it in data\.bids\.task"):
        made_config(data={"layout": "bids"})
    with pytest.raises(ConfigError, match=r"data\.bids is read only with data\.layout: bids"):
        made_config(data={"bids": {"task": "film"}})


def test_every_file_is_part_of_the_key(folder, config):
    roles = find_sources(config, folder).named()
    assert len(roles) == 1 + 2 + 2 * 2 * 3
    assert {"film", "annotations 2", "sub-02 1", "sub-02 brain mask 2", "sub-01 confounds 1"} <= set(roles)
    one_subject = made_config(data={**BIDS_DATA, "subjects": [2]})
    assert list(find_sources(one_subject, folder).bold) == ["sub-02"]


def test_runs_are_read_as_one_series(folder):
    paths = [run.bold for run in bids_runs(folder, FILM_TASK)["01"]]
    volumes = read_headers(paths, 1.5)
    mask = nonzero_voxels(volumes)
    scans = [np.concatenate([b for _, b in stream(read_header(path, 1.5), mask)]) for path in paths]
    for n_trs in (sum(RUN_TRS), RUN_TRS[0] + 3, RUN_TRS[0], 7):
        chunks = list(stream(volumes, mask, n_trs))
        np.testing.assert_array_equal(np.concatenate([b for _, b in chunks]), np.concatenate(scans)[:n_trs])
        assert [start for start, _ in chunks] == np.cumsum([0, *(len(b) for _, b in chunks)])[:-1].tolist()


def test_the_store_holds_runs_as_scans_inside_the_brain_masks(study, folder):
    assert study.scan_lengths_trs == RUN_TRS
    runs = bids_runs(folder, FILM_TASK)
    volumes = read_headers([run.bold for run in runs["01"]], 1.5)
    masks = [read_mask(run.mask, volumes.geometry) for subject in runs.values() for run in subject]
    np.testing.assert_array_equal(study.mask, np.logical_and.reduce(masks))
    raw = np.concatenate([b for _, b in stream(volumes, study.mask)])
    bold_TV = study.bold["sub-01"].astype(np.float32) + study.reference["sub-01"]
    np.testing.assert_allclose(bold_TV, raw, atol=2e-3 * raw.std())
    assert {s: c.shape for s, c in study.confounds.items()} == {s: (sum(RUN_TRS), 3) for s in study.subjects}
    assert any("trans_?, csf are regressed out" in note for note in study.notes)


def test_each_runs_events_lie_in_its_scan(study):
    assert study.text_labels[0] == "scene 1-0"
    assert study.text_labels[RUN_TRS[0]] == "scene 2-0"
    assert study.text_labels[RUN_TRS[0] + 5] == "scene 2-6"


def test_what_the_engine_gets_is_free_of_the_confounds_over_training_trs(study, config):
    split = make_split(study.scan_lengths_trs, study.border_trs, config.split)
    assert split.test_blocks == ((RUN_TRS[0], sum(RUN_TRS)),)
    data = prepare_split(study, split, config)
    for subject in study.subjects:
        bold = data.bold[subject][split.train].astype(np.float64)
        confounds = study.confounds[subject][split.train].astype(np.float64)
        r = np.corrcoef(confounds.T, bold.T)[: confounds.shape[1], confounds.shape[1] :]
        assert np.abs(r).max() < 1e-3
        np.testing.assert_allclose(bold.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(bold.std(axis=0), 1, atol=1e-3)


def test_runs_of_other_lengths_are_refused(folder, tmp_path, config):
    for run, n_trs in enumerate((32, 25), 1):
        write_run(tmp_path, 1, run, RUN_TRS[run - 1])
        write_run(tmp_path, 2, run, n_trs)
    for path in [folder / "film.mp4", *folder.glob("*events.tsv")]:
        (tmp_path / path.name).symlink_to(path.resolve())
    with pytest.raises(DataError, match=r"sub-02.* have \[32, 25\] volumes; sub-01.* has \[32, 26\]"):
        build_store(config, tmp_path, tmp_path / "work", lambda *_: None)


def test_the_check_reads_the_layout_and_writes_its_page(folder, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(dump(made_config(data={**BIDS_DATA, "data_dir": str(folder)}, split={"gap_trs": 2, "n_folds": 3})))
    argv = ["data", "check", path, "--workdir", tmp_path / "work", "--html", tmp_path / "check.html"]
    result = engine_cli_server().run([*map(str, argv)], os.environ, tmp_path, 150)
    assert "cannot_prepare" not in result.stdout
    assert "errors" in result.stdout, result.stderr
    assert result.stdout.count("sub-01") >= 2
    text = (tmp_path / "check.html").read_text()
    assert text.count("<img") == 3 + (3 + 3 + 1) * 2, "of each subject: slices, tSNR, carpet"
    assert str(tmp_path) not in text
