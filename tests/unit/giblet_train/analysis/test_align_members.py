"""Members that validate on other blocks, read in the voxels and features of the first."""

from dataclasses import replace

import numpy as np
import pytest

from giblet_train.analysis.align_members import Mean, to_features_of, to_voxels_of
from giblet_train.analysis.ensemble import ENSEMBLE, score_folds
from giblet_train.analysis.load_run import load_run
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.schema.config import dump
from giblet_train.schema.run_dir import RunDir
from giblet_train.training import process
from tests.made_study import made_config, made_study

STUDY = made_study()
MODALITIES = ("video", "audio", "text")


def config(block):
    split = {"n_folds": 4, "fold": 1, "gap_trs": 4, "validation_block": block}
    model = {"width": 16, "n_layers": 1, "bottleneck_dim": 6}
    return made_config(
        split=split, model=model, threads=1, seed=block, num_epochs=1, steps_per_epoch=4, warmup_steps=1,
        on_sanity_fail="warn",
    )  # fmt: skip


def load(config, *_):
    return prepare_split(STUDY, make_split(STUDY.scan_lengths_trs, STUDY.border_trs, config.split), config)


@pytest.fixture(scope="module")
def here():
    return load(config(0))


@pytest.fixture(scope="module")
def there():
    return load(config(1))


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_truth_of_one_member_is_the_truth_of_another(here, there, modality):
    assert here.split.train_blocks != there.split.train_blocks and here.split.test_blocks == there.split.test_blocks
    rows, n_own_columns = here.split.test, here.pca_columns.start if modality == "video" else None
    moved_TF = to_features_of(there, here, modality, there.targets[modality][rows])
    own_TF = here.targets[modality][rows]
    assert not np.allclose(there.targets[modality][rows][:, :n_own_columns], own_TF[:, :n_own_columns], atol=1e-3)
    np.testing.assert_allclose(moved_TF[:, :n_own_columns], own_TF[:, :n_own_columns], atol=1e-3)


def test_frames_of_one_member_are_those_of_another_as_far_as_its_components_reach(here, there):
    def light(data, target_TF):
        """Return (T, P): what the components of the frames add up to."""
        columns, pca = data.pca_columns, data.frame_pca
        scores_TF = target_TF[:, columns] * data.feature_sd["video"][columns] + data.feature_mean["video"][columns]
        return scores_TF @ pca.components_FP + pca.mean_P

    theirs_TF = there.targets["video"][there.split.test]
    moved_TP = light(here, to_features_of(there, here, "video", theirs_TF)) - here.frame_pca.mean_P
    components_FP = here.frame_pca.components_FP
    reached_TP = (light(there, theirs_TF) - here.frame_pca.mean_P) @ components_FP.T @ components_FP
    np.testing.assert_allclose(moved_TP, reached_TP, atol=1e-3)
    assert np.abs(moved_TP).max() > 0.05


def test_a_member_is_left_as_it_is_in_its_own_terms(here):
    assert to_features_of(here, here, "video", here.targets["video"]) is here.targets["video"]


def test_voxels_that_a_member_dropped_are_the_mean_of_the_others(here):
    kept_V = np.arange(here.n_voxels) != 1
    fewer = replace(here, voxels_V=here.voxels_V[kept_V][::-1].copy())
    predicted_TV = np.arange(3.0 * here.n_voxels, dtype=np.float32).reshape(3, -1) + 1.0
    mean = Mean()
    mean.add(predicted_TV)
    mean.add(to_voxels_of(fewer, here, 3.0 * predicted_TV[:, kept_V][:, ::-1]))
    np.testing.assert_allclose(mean.value_TV[:, kept_V], 2.0 * predicted_TV[:, kept_V], rtol=1e-6)
    np.testing.assert_allclose(mean.value_TV[:, 1], predicted_TV[:, 1], rtol=1e-6)


def test_an_ensemble_averages_members_that_learnt_from_other_trs(tmp_path):
    paths = []
    for block in range(2):
        run_dir = RunDir(tmp_path / "runs" / f"block-{block}")
        run_dir.path.mkdir(parents=True)
        run_dir.config.write_text(dump(config(block)))
        assert process.train(run_dir.path, load) == 0
        paths.append(run_dir.path)
    (fold,) = score_folds(paths, "best", load, lambda *_: None)
    first, second = (load_run(path, "best", load, lambda *_: None) for path in paths)
    data, align = first.data, to_features_of
    assert fold.data.split == data.split
    for modality in MODALITIES:
        own_TF, other_TF = (run.evaluator.rebuilt(run.model)["measured"][modality] for run in (first, second))
        mean_TF = (own_TF + align(second.data, data, modality, other_TF)) / 2
        np.testing.assert_allclose(fold.rebuilt["measured"][modality], mean_TF, atol=1e-4)
    predicted = [dict(run.evaluator.predicted(run.model)) for run in (first, second)]
    r = []
    for subject in data.subjects:
        mean_TV = np.nanmean([predicted[0][subject], to_voxels_of(second.data, data, predicted[1][subject])], axis=0)
        measured_TV = data.bold[subject][data.split.test]
        r += [np.corrcoef(mean_TV[:, v], measured_TV[:, v])[0, 1] for v in np.flatnonzero(data.responsive_V)]
    assert fold.scores[ENSEMBLE].r_responsive == pytest.approx(np.mean(r), abs=1e-4)
