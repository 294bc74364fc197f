"""A split of a study: every parameter from training TRs alone, every component on the scale where a mean scores 1."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from nilearn.maskers import NiftiMasker

from giblet_train.data.preprocessing.fit_brains import AVERAGE
from giblet_train.data.preprocessing.split_data import prepare_split
from giblet_train.data.preprocessing.splits import make_split
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.schema.errors import ConfigError
from tests.made_study import made_config, made_study

STUDY = made_study()
SPLIT = {"gap_trs": 14, "n_folds": 5, "fold": 1}


def prepared(study=STUDY, **changes):
    config = made_config(**{"split": SPLIT, **changes})
    return prepare_split(study, make_split(study.scan_lengths_trs, study.border_trs, config.split), config)


def poisoned(study, rows):
    """Return the study with every value of these rows replaced by NaN (pictures, which have none, by white)."""
    frames = study.frames_TKHWC.copy()
    frames[rows] = 255

    def spoilt(array):
        copy = np.array(array)
        copy[rows] = np.nan
        return copy

    return replace(
        study,
        frames_TKHWC=frames,
        features={m: spoilt(x) for m, x in study.features.items()},
        bold={s: spoilt(y) for s, y in study.bold.items()},
    )


@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize("mode", ["per_subject", "cross_subject"])
def test_poison_outside_training_leaves_every_parameter_bitwise_the_same(fold, mode):
    split = {**SPLIT, "fold": fold}
    data = {"mode": mode, "apply_hrf": False}
    clean = prepared(split=split, data=data)
    rows = np.setdiff1d(np.arange(STUDY.n_trs), clean.split.train)
    assert set(clean.split.test) <= set(rows)
    dirty = prepared(poisoned(STUDY, rows), split=split, data=data)
    train = clean.split.train
    for name in ("voxels_V", "mask", "isc_V", "responsive_V", "null_V"):
        np.testing.assert_array_equal(getattr(dirty, name), getattr(clean, name))
    for name in ("feature_mean", "feature_sd", "target_weights"):
        for modality, value in getattr(clean, name).items():
            np.testing.assert_array_equal(getattr(dirty, name)[modality], value)
    for name in ("mean_P", "components_FP", "variance_F"):
        np.testing.assert_array_equal(getattr(dirty.frame_pca, name), getattr(clean.frame_pca, name))
    for name in ("inputs", "targets", "bold"):
        for key, value in getattr(clean, name).items():
            np.testing.assert_array_equal(getattr(dirty, name)[key][train], value[train])
    assert dirty.facts == clean.facts


def test_poison_in_the_test_block_stays_out_of_convolved_training_inputs():
    data = {"apply_hrf": True}
    clean = prepared(data=data)
    dirty = prepared(poisoned(STUDY, clean.split.test), data=data)
    for modality in clean.inputs:
        np.testing.assert_array_equal(
            dirty.inputs[modality][clean.split.train], clean.inputs[modality][clean.split.train]
        )


def test_the_mean_of_training_scores_exactly_one():
    data = prepared(replace(STUDY, scan_lengths_trs=(110,)))
    train = data.split.train
    for modality, target_TF in data.targets.items():
        loss = (target_TF[train] ** 2).mean(axis=0) * data.target_weights[modality]
        assert loss.mean() == pytest.approx(1.0, abs=1e-4)
        assert data.facts[modality].train_variance == pytest.approx(1.0, abs=1e-4)
        assert data.facts[modality].expected_first_loss == pytest.approx(1.0, abs=1e-4)
    for subject in data.bold:
        assert (data.bold[subject][train] ** 2).mean() == pytest.approx(1.0, abs=1e-4)
    assert data.facts["fmri"].expected_first_loss == pytest.approx(1.0, abs=1e-4)


def test_bold_equals_nilearn_through_the_half_precision_store():
    data = prepared(replace(STUDY, scan_lengths_trs=(110,)), split={**SPLIT, "fold": 0})
    train = data.split.train
    mask = nibabel.Nifti1Image(data.mask.astype(np.int8), STUDY.geometry.affine)
    for subject, stored_TV in STUDY.bold.items():
        raw_VT = (stored_TV.astype(np.float64) + STUDY.reference[subject])[train].T
        image = nibabel.Nifti1Image(raw_VT.reshape(*STUDY.mask.shape, len(train)), STUDY.geometry.affine)
        expected = NiftiMasker(mask_img=mask, standardize="zscore_sample").fit_transform(image)
        ours = data.bold[subject][train] * np.sqrt((len(train) - 1) / len(train))
        np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=2e-3)


def test_facts_speak_of_the_scanners_units():
    data = prepared()
    train = data.split.train
    raw = np.stack([STUDY.bold[s].astype(float) + STUDY.reference[s] for s in STUDY.subjects])
    raw = raw[:, train][:, :, data.voxels_V]
    facts = data.facts["fmri"]
    assert facts.raw_mean == pytest.approx(raw.mean(), rel=1e-5)
    assert facts.raw_sd == pytest.approx(raw.std(), rel=1e-4)
    assert (facts.raw_min, facts.raw_max) == pytest.approx((raw.min(), raw.max()), rel=1e-5)
    assert facts.n_targets == data.n_voxels


def test_responsive_voxels_are_those_with_a_shared_signal():
    data = prepared()
    has_signal = data.voxels_V < STUDY.n_voxels // 2
    assert data.responsive_V[has_signal].mean() > 0.9
    assert data.responsive_V[~has_signal].mean() < 0.1
    assert data.null_V[~has_signal].mean() > 0.5


def test_video_gains_components_of_frames_that_give_pictures_back():
    data = prepared(model={"preset": "tiny"})
    n_columns = STUDY.features["video"].shape[1]
    assert data.pca_columns == slice(n_columns, n_columns + len(data.frame_pca.components_FP))
    assert data.targets["video"].shape[1] == data.pca_columns.stop
    scores = data.targets["video"] * data.feature_sd["video"] + data.feature_mean["video"]
    np.testing.assert_allclose(
        scores[:, data.pca_columns], data.frame_pca.scores(STUDY.frames_TKHWC), rtol=1e-3, atol=1e-3
    )


def test_apply_hrf_convolves_inputs_scan_by_scan_and_leaves_targets():
    plain, blurred_data = prepared(), prepared(data={"apply_hrf": True}, model={"fir_trs": 13})
    assert all(plain.inputs[m] is plain.targets[m] for m in plain.inputs)
    raw = STUDY.features["audio"].astype(np.float64)
    kernel = glover(STUDY.tr_s, 13 * STUDY.tr_s)
    expected = np.concatenate([convolve_causal(raw[:60], kernel), convolve_causal(raw[60:], kernel)])
    train = blurred_data.split.train
    expected = (expected - expected[train].mean(axis=0)) / expected[train].std(axis=0)
    np.testing.assert_allclose(blurred_data.inputs["audio"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(blurred_data.targets["audio"], plain.targets["audio"])


def test_cross_subject_is_one_average_brain():
    individual, average = prepared(), prepared(data={"mode": "cross_subject"})
    assert average.subjects == (AVERAGE,)
    mean = np.mean([individual.bold[s] for s in individual.subjects], axis=0)
    for v in range(0, average.n_voxels, 7):
        assert np.corrcoef(mean[:, v], average.bold[AVERAGE][:, v])[0, 1] == pytest.approx(1.0, abs=1e-5)


def test_raw_units_are_possible_and_loud():
    data = prepared(data={"normalize_fmri": False})
    subject = STUDY.subjects[0]
    expected = STUDY.bold[subject][:, data.voxels_V].astype(np.float32) + STUDY.reference[subject][data.voxels_V]
    np.testing.assert_array_equal(data.bold[subject], expected)
    assert any("normalize_fmri is false" in note for note in data.notes)
    assert data.facts["fmri"].expected_first_loss > 100


def test_one_subject_has_no_correlation_and_says_so():
    data = prepared(made_study(n_subjects=1))
    assert np.isnan(data.isc_V).all()
    assert data.responsive_V.all()
    assert any("One subject" in note for note in data.notes)


def test_a_typed_number_of_voxels_is_checked():
    n_voxels = prepared().n_voxels
    assert prepared(model={"n_voxels": n_voxels}).n_voxels == n_voxels
    with pytest.raises(ConfigError, match=f"n_voxels is 85810, but the mask of this split keeps {n_voxels}"):
        prepared(model={"n_voxels": 85810})


def test_a_given_mask_decides():
    mask_V = np.zeros(STUDY.n_voxels, bool)
    mask_V[[3, 50, 119]] = True
    data = prepared(replace(STUDY, given_mask_V=mask_V))
    np.testing.assert_array_equal(data.voxels_V, [3, 50, 119])
    np.testing.assert_array_equal(np.flatnonzero(data.mask), [3, 50, 119])


def with_parcels(study, labels_V):
    names = {n: f"area {n}" for n in np.unique(labels_V[labels_V > 0]).tolist()}
    return replace(study, parcel_V=labels_V.astype(np.int32), parcel_names=names)


def test_parcels_order_the_voxels_and_the_way_back_to_the_grid_is_known():
    label_V = np.random.default_rng(0).integers(0, 4, STUDY.n_voxels)
    plain, parcel_data = prepared(), prepared(with_parcels(STUDY, label_V))
    assert list(parcel_data.parcels) == ["area 1", "area 2", "area 3"]
    for label, (_, where) in enumerate(parcel_data.parcels.items(), 1):
        assert set(label_V[parcel_data.voxels_V[where]]) == {label}
    inside = sum(where.stop - where.start for where in parcel_data.parcels.values())
    assert set(label_V[parcel_data.voxels_V[inside:]]) == {0}
    np.testing.assert_array_equal(parcel_data.mask, plain.mask)
    for subject in STUDY.subjects:
        np.testing.assert_array_equal(parcel_data.in_grid_order(parcel_data.bold[subject]), plain.bold[subject])
    np.testing.assert_array_equal(parcel_data.in_grid_order(parcel_data.isc_V), plain.isc_V)


def test_an_atlas_as_the_mask_keeps_its_parcels_alone():
    label_V = np.zeros(STUDY.n_voxels, int)
    label_V[[7, 3, 90]] = [1, 2, 1]
    data = prepared(with_parcels(STUDY, label_V), data={"mask": "atlas", "atlas": "any.nii.gz"})
    np.testing.assert_array_equal(data.voxels_V, [7, 90, 3])
    assert data.parcels == {"area 1": slice(0, 2), "area 2": slice(2, 3)}


def test_nothing_is_learnt_of_a_subject_that_is_left_out():
    split = {**SPLIT, "leave_out_subject": 2}
    spoilt = replace(STUDY, bold={**STUDY.bold, "sub-02": np.full_like(STUDY.bold["sub-02"], 99.0)})
    clean, dirty, without = (
        prepared(split=split),
        prepared(spoilt, split=split),
        prepared(replace(STUDY, bold={s: y for s, y in STUDY.bold.items() if s != "sub-02"})),
    )
    for data in (dirty, without):
        assert data.subjects == clean.subjects == ("sub-01", "sub-03")
        for name in ("voxels_V", "isc_V", "responsive_V", "null_V"):
            np.testing.assert_array_equal(getattr(data, name), getattr(clean, name))
        assert data.facts == clean.facts
    assert list(clean.left_out) == ["sub-02"]
    assert not without.left_out
    whole = prepared()
    shared_V = np.isin(whole.voxels_V, clean.voxels_V)
    own_TV = clean.left_out["sub-02"][:, np.isin(clean.voxels_V, whole.voxels_V)]
    np.testing.assert_array_equal(own_TV, whole.bold["sub-02"][:, shared_V])
    with pytest.raises(ConfigError, match=r"leave_out_subject is 9; the study has sub-01, sub-02, sub-03"):
        prepared(split={**SPLIT, "leave_out_subject": 9})
