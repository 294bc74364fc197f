"""The lesion study on brains in which it is known who follows the film; parcels by truth, atlas and mask."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest

from giblet_train.analysis.lesions import lesion_lines, lesion_study
from giblet_train.analysis.load_run import load_run
from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.parcels import (
    Parcel,
    parcel_of_mask,
    parcels_of_atlas,
    parcels_of_split,
    select_parcels,
)
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import EvaluationMetric
from giblet_train.training import process
from tests.engine_study import load
from tests.unit.giblet_train.training.test_trainer import metrics_of, run_dir_of

QUIET = lambda sentence, fraction=0.0: None  # noqa: E731


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run_dir = run_dir_of(
        tmp_path_factory.mktemp("work"), num_epochs=6, learning_rate=5e-3, model={"bottleneck_dim": 12}
    )
    assert process.train(run_dir.path, load) == 0
    return load_run(run_dir.path, "best", load, QUIET)


def test_only_what_follows_the_film_is_missed(run):
    data = run.data
    parcels = [Parcel("film", data.responsive_V), Parcel("noise", data.null_V)]
    study = json.loads(json.dumps(lesion_study(run, parcels, "measured", "missing", 30, QUIET)))
    [evaluation] = metrics_of(run.run_dir, EvaluationMetric)
    for modality, figures in study["before"].items():
        for name, value in figures.items():
            assert value == pytest.approx(evaluation.decoding["measured"][modality][name], rel=1e-3, abs=1e-4)
    film, noise = (lesion["changes"] for lesion in study["lesions"])
    cases = {"film": film, "noise": noise}
    loss_of_r = {name: np.mean([c["r"]["lost"] for c in changes.values()]) for name, changes in cases.items()}
    assert loss_of_r["film"] > 0.1 and loss_of_r["film"] > 3 * abs(loss_of_r["noise"]), loss_of_r
    assert np.mean([c["r"]["after"] for c in film.values()]) < 0.1
    assert [lesion["n_voxels"] for lesion in study["lesions"]] == [20, 40]
    table = lesion_lines(study)
    assert any(line.startswith("film ") for line in table) and any(line.startswith("noise ") for line in table)


def test_random_sets_as_responsive_as_the_region_distinguish_a_half_from_chance(run):
    """Half of the responsive voxels are no special half: random halves of them lose as much."""
    half_V = run.data.responsive_V & (np.arange(run.data.n_voxels) % 2 == 0)
    parcel = Parcel("half", half_V, {"video": 0.9, "audio": 0.1, "text": 0.0})
    [lesion] = lesion_study(run, [parcel], "predicted", "silence", 60, QUIET)["lesions"]
    changes = lesion["changes"]
    assert all(c["skill"]["random_low"] <= c["skill"]["random_high"] for c in changes.values())
    assert any(c["skill"]["p"] > 0.05 for c in changes.values())
    assert lesion["as_truth_says"] == (changes["video"]["skill"]["p"] <= 0.05 < changes["text"]["skill"]["p"])


def test_regions_are_the_atlas_with_what_the_truth_says_of_them(run, tmp_path):
    regions = [
        {"name": "eye", "shares": {"low_vision": 1.0}},
        {"name": "word", "shares": {"text": 0.5, "narrative": 0.4, "high_vision": 0.1}},
    ]
    (tmp_path / "truth.json").write_text(json.dumps({"regions": regions}))
    data = dataclasses.replace(run.data, parcels={"eye": slice(0, 1), "word": slice(1, 4), "other": slice(4, 5)})
    eye, word, other = parcels_of_split(data, tmp_path)
    assert np.flatnonzero(word.voxels_V).tolist() == [1, 2, 3] and other.shares == {}
    assert word.shares == pytest.approx({"video": 0.1, "audio": 0.0, "text": 0.9})
    [both] = select_parcels((eye, word), ["eye+word"])
    assert both.voxels_V.sum() == 4 and both.shares["video"] == pytest.approx((1 + 3 * 0.1) / 4)
    with pytest.raises(ConfigError, match='no region "eyes", did you mean "eye"'):
        select_parcels((eye, word), ["eyes"])
    assert parcels_of_split(data, tmp_path / "elsewhere")[0].shares == {}


def test_an_atlas_and_a_mask_on_the_grid_are_read(run, tmp_path):
    """The split keeps three voxels of four, in an order of its own."""
    grid = VolumeGrid.of((4, 1, 1), np.eye(4))
    study = dataclasses.replace(run.data.study, mask=np.ones((4, 1, 1), bool), geometry=grid)
    kept_XYZ = np.array([1, 1, 1, 0], bool).reshape(4, 1, 1)
    data = dataclasses.replace(run.data, study=study, voxels_V=np.array([2, 0, 1]), mask=kept_XYZ)
    values_XYZ = np.array([0, 7, 9, 8], np.float32).reshape(4, 1, 1)
    path = tmp_path / "areas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values_XYZ, np.eye(4)), path)
    (tmp_path / "areas.tsv").write_text("index\tname\n9\tnine\n")
    parcels = {p.name: p for p in parcels_of_atlas(path, data)}
    assert set(parcels) == {"parcel 7", "nine"} and parcels["nine"].voxels_V.tolist() == [True, False, False]
    assert parcel_of_mask(path, data).voxels_V.tolist() == [True, False, True]
    with pytest.raises(DataError, match="not on the grid"):
        other = dataclasses.replace(study, geometry=VolumeGrid.of((5, 1, 1), np.eye(4)))
        parcel_of_mask(path, dataclasses.replace(data, study=other))
    nibabel.save(nibabel.Nifti1Image(values_XYZ + 0.5, np.eye(4)), path)
    with pytest.raises(DataError, match="no labels"):
        parcels_of_atlas(path, data)


def test_a_study_without_regions_asks_for_some(run):
    with pytest.raises(ConfigError, match="has no atlas"):
        run.parcels((), None, None)
