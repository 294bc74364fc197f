"""A run looked at again says what it said at its end."""

import dataclasses
import json
import shutil

import msgspec
import nibabel
import pytest

from giblet_train.analysis.evaluate_run import evaluation_lines
from giblet_train.analysis.evaluation_folder import evaluate_into
from giblet_train.analysis.load_run import load_run
from giblet_train.analysis.results import output_dir, write_results
from giblet_train.monitoring.verdict import verdict_lines
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import EvaluationMetric
from giblet_train.training import checkpoint_files, process
from tests.engine_study import load, split_data
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of


def evaluate_checkpoint(run):
    return evaluate_into(run, None, QUIET)[0]


QUIET = lambda sentence, fraction=0.0: None  # noqa: E731


def look(path, how=load):
    return load_run(path, "best", how, QUIET)


CRITERIA = {"drop": {"kind": "loss_drop", "threshold": 0.01}, "far": {"kind": "loss_drop", "threshold": 0.9}}


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    run_dir = run_dir_of(tmp_path_factory.mktemp("work"), criteria=CRITERIA)
    assert process.train(run_dir.path, load) == 0
    return run_dir


def test_judging_again_gives_the_recorded_figures(finished_run):
    lines = finished_run.metrics.read_bytes()
    again = json.loads(json.dumps(evaluate_checkpoint(look(finished_run.path))))
    record = msgspec.to_builtins(metrics_of(finished_run, EvaluationMetric)[0])
    for part in ("encoding", "skill", "baselines"):
        assert {k: again[part][k] for k in record[part]} == pytest.approx(record[part], rel=1e-5)
    assert (
        again["schema"] == 1
        and again["folds"] == [0]
        and set(again["decoding"]) == {"predicted", "measured", "linear", "ridge"}
    )
    names = {"r_mean", "r_median", "r_p95", "share_above_null", "r_ridge", "r_ceiling", "by_region"}
    assert names <= set(again["encoding"])
    assert any(line.startswith("  r, responsive voxels") for line in evaluation_lines(again))
    assert finished_run.metrics.read_bytes() == lines, "nothing is written"


def test_each_voxels_r_can_be_had_as_a_volume(finished_run, tmp_path):
    figures, _ = evaluate_into(look(finished_run.path), tmp_path, QUIET)
    r_XYZ = nibabel.load(tmp_path / "r.nii.gz").get_fdata()
    data = split_data()
    assert r_XYZ.shape == data.mask.shape
    assert r_XYZ[data.mask][data.responsive_V].mean() == pytest.approx(figures["encoding"]["r_responsive"], rel=1e-4)


def test_other_data_are_not_judged(finished_run):
    def other(config, workdir, progress):
        data = split_data()
        object.__setattr__(data.study, "key", "other")
        return data

    with pytest.raises(DataError, match="trained on store synthetic, the data here are store other"):
        look(finished_run.path, other)


def test_a_checkpoint_of_another_initialisation_is_refused_in_a_sentence(finished_run, monkeypatch):
    """Versions of giblet may differ in the feature spaces that the initialisation selects."""
    read = checkpoint_files.read

    def without_a_space(folder, record):
        checkpoint = read(folder, record)
        spaces = [name for name in checkpoint.tensors if "linear_path" in name and "audio" in name]
        assert spaces
        tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in spaces}
        return dataclasses.replace(checkpoint, tensors=tensors)

    monkeypatch.setattr(checkpoint_files, "read", without_a_space)
    with pytest.raises(DataError, match="other tensors than the network") as error:
        look(finished_run.path)
    assert "giblet_version" in error.value.remedy


def test_an_initialisation_that_is_fitted_otherwise_here_is_refused_by_evaluation_and_resume(
    finished_run, tmp_path, monkeypatch
):
    """Its tensors have the same shapes, so heads of another basis would load and predict something else."""
    read = checkpoint_files.read

    def of_another_version(folder, record):
        checkpoint = read(folder, record)
        heads = {name: 1.1 * tensor for name, tensor in checkpoint.tensors.items() if ".heads.start." in f".{name}"}
        assert heads
        return dataclasses.replace(checkpoint, tensors=dict(checkpoint.tensors) | heads)

    monkeypatch.setattr(checkpoint_files, "read", of_another_version)
    with pytest.raises(DataError, match="initialisation fitted here differs") as error:
        look(finished_run.path)
    assert "giblet_version" in error.value.remedy
    resumed = run_dir_of(tmp_path, criteria=CRITERIA, resume_from=str(finished_run.path))
    with pytest.raises(DataError, match="initialisation fitted here differs"):
        process.train(resumed.path, load)


def test_what_was_pulled_is_judged_next_to_a_study_that_is_elsewhere(finished_run, tmp_path, monkeypatch):
    copy = tmp_path / "pulled"
    shutil.copytree(finished_run.path, copy)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    workdirs = []

    def noting(config, workdir, progress):
        workdirs.append(workdir)
        return load(config, workdir, progress)

    for lab_folder in (None, tmp_path / "lab"):
        figures = evaluate_checkpoint(load_run(copy, "best", noting, QUIET, lab_folder))
        assert figures["encoding"] == evaluate_checkpoint(look(finished_run.path))["encoding"]
    assert workdirs == [tmp_path / "home" / "giblet", tmp_path / "lab"]


def test_figures_are_printed_and_kept_and_what_is_no_number_is_null(tmp_path):
    with output_dir(tmp_path / "new" / "folder") as folder:
        assert write_results("found", {"r": float("nan")}, ["r  –"], folder, as_json=True) == '{"r":null}'
        assert write_results("found", {"r": 1.5}, ["r  1.5"], folder, as_json=False) == "r  1.5"
    assert json.loads((folder / "found.json").read_text()) == {"r": 1.5}
    assert (folder / "found.txt").read_text() == "r  1.5\n"
    with pytest.raises(ConfigError, match="not an empty folder"), output_dir(folder):
        pass
    with pytest.raises(ConfigError, match="cannot be created: Not a directory"), output_dir(folder / "found.txt" / "x"):
        pass


def test_what_is_refused_leaves_no_folder_but_keeps_what_was_written(tmp_path):
    (tmp_path / "there").mkdir()
    for path in ("there", "a/b/c"):
        with pytest.raises(DataError), output_dir(tmp_path / path):
            raise DataError("The model is damaged.")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    with pytest.raises(DataError), output_dir(tmp_path / "a/b") as folder:
        (folder / "figures.json").touch()
        raise DataError("The disk is full.")
    assert (tmp_path / "a/b/figures.json").exists()


def test_without_a_checkpoint_there_is_nothing_to_judge(tmp_path):
    with pytest.raises(ConfigError, match="no best checkpoint"):
        look(run_dir_of(tmp_path).path)


def test_the_verdict_names_each_criterion(finished_run, tmp_path):
    is_failed, lines = verdict_lines(finished_run.path, as_json=False)
    assert is_failed and lines[-1] == "Verdict: FAIL"
    assert lines[0].startswith("PASS      completed: 2 of 2 epochs")
    assert lines[1].startswith("PASS      drop: train loss 2 (best constant) → ") and lines[2].startswith(
        "FAIL      far: "
    )
    _, [as_json] = verdict_lines(finished_run.path, as_json=True)
    assert [c["status"] for c in json.loads(as_json)["criteria"]] == ["pass", "pass", "fail"]
    with pytest.raises(ConfigError, match="cannot be read"):
        verdict_lines(run_dir_of(tmp_path).path, as_json=False)
