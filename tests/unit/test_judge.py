"""A run looked at again says what it said at its end."""

import json

import msgspec
import nibabel
import pytest

from giblet_train import trainer
from giblet_train.contract.errors import ConfigError, DataError
from giblet_train.contract.records import EvaluationMetric
from giblet_train.judge import evaluation_lines, judge
from giblet_train.verdict import verdict_lines
from tests.engine_study import load, split_data
from tests.unit.test_trainer import metrics_of, run_dir_of


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    criteria = {"drop": {"kind": "loss_drop", "threshold": 0.01}, "far": {"kind": "loss_drop", "threshold": 0.9}}
    run_dir = run_dir_of(tmp_path_factory.mktemp("work"), criteria=criteria)
    assert trainer.train(run_dir.path, load) == 0
    return run_dir


def test_judging_again_gives_the_recorded_figures(finished):
    lines = finished.metrics.read_bytes()
    again = json.loads(json.dumps(judge(finished.path, "best", load, lambda sentence, fraction: None)))
    recorded = msgspec.to_builtins(metrics_of(finished, EvaluationMetric)[0])
    for part in ("encoding", "skill", "baselines"):
        assert {k: again[part][k] for k in recorded[part]} == pytest.approx(recorded[part], rel=1e-5)
    assert again["schema"] == 1 and again["folds"] == [0] and set(again["decoding"]) == {"predicted", "measured"}
    said = {"r_mean", "r_median", "r_p95", "share_above_null", "r_ridge", "r_ceiling", "by_region"}
    assert said <= set(again["encoding"])
    assert any(line.startswith("  r, responsive voxels") for line in evaluation_lines(again))
    assert finished.metrics.read_bytes() == lines, "nothing is written"


def test_each_voxels_r_can_be_had_as_a_volume(finished, tmp_path):
    figures = judge(finished.path, "best", load, lambda *_: None, tmp_path / "r.nii.gz")
    r_XYZ = nibabel.load(tmp_path / "r.nii.gz").get_fdata()
    data = split_data()
    assert r_XYZ.shape == data.mask_XYZ.shape
    assert r_XYZ[data.mask_XYZ][data.responsive_V].mean() == pytest.approx(
        figures["encoding"]["r_responsive"], rel=1e-4
    )


def test_other_data_are_not_judged(finished):
    def other(config, workdir, progress):
        data = split_data()
        object.__setattr__(data.study, "key", "other")
        return data

    with pytest.raises(DataError, match="trained on store synthetic, the data here are store other"):
        judge(finished.path, "best", other, lambda sentence, fraction: None)


def test_without_a_checkpoint_there_is_nothing_to_judge(tmp_path):
    with pytest.raises(ConfigError, match="no best checkpoint"):
        judge(run_dir_of(tmp_path).path, "best", load, lambda sentence, fraction: None)


def test_the_verdict_names_each_criterion(finished, tmp_path):
    failed, lines = verdict_lines(finished.path, as_json=False)
    assert failed and lines[-1] == "Verdict: FAIL"
    assert lines[0].startswith("PASS      drop: train loss 2 → ") and lines[1].startswith("FAIL      far: ")
    _, [as_json] = verdict_lines(finished.path, as_json=True)
    assert [c["status"] for c in json.loads(as_json)["criteria"]] == ["pass", "fail"]
    with pytest.raises(ConfigError, match="Has the run begun"):
        verdict_lines(run_dir_of(tmp_path).path, as_json=False)
