"""Scales: equal to numpy's on the training rows, blind to all others, per scan."""

import numpy as np
from sklearn.preprocessing import StandardScaler

from giblet_train.data.preprocessing.standardize import fit_columns, scan_moments, vote_mask

RANDOM = np.random.default_rng(0)


def test_columns_are_scaled_as_scikit_learn_does_and_constants_become_zero():
    features = RANDOM.normal(5, 3, (50, 7)).astype(np.float32)
    features[:, 2] = 4.0
    train = np.arange(10, 40)
    scaled = fit_columns(features, train).apply(features)
    expected = StandardScaler().fit(features[train]).transform(features)
    keep = np.arange(7) != 2
    np.testing.assert_allclose(scaled[:, keep], expected[:, keep], rtol=1e-4, atol=1e-5)
    assert not scaled[:, 2].any()


def test_a_feature_that_hardly_moves_in_training_is_not_blown_up():
    features = RANDOM.normal(0, 1, (60, 9)).astype(np.float32)
    features[:40, 4] *= 1e-4
    scale = fit_columns(features, np.arange(40))
    assert scale.sd_F[4] == np.float32(0.1) * np.median(scale.sd_F)
    assert np.abs(scale.apply(features)[40:, 4]).max() < 40


def test_bold_is_scaled_in_each_scan_by_its_training_rows():
    bold = RANDOM.normal(0, 2, (80, 9))
    bold[40:] = bold[40:] * 3 + 100
    train = np.r_[5:35, 50:75]
    scale = scan_moments(bold, train, (40, 40)).scale()
    z = scale.apply(bold, (40, 40), np.arange(9))
    for scan, rows in ((slice(0, 40), np.arange(5, 35)), (slice(40, 80), np.arange(50, 75))):
        expected = (bold[scan] - bold[rows].mean(axis=0)) / bold[rows].std(axis=0)
        np.testing.assert_allclose(z[scan], expected, rtol=1e-4, atol=1e-5)
    assert scale.pooled_scans == ()


def test_a_scan_without_training_rows_takes_those_of_the_others():
    bold = RANDOM.normal(1, 2, (80, 9))
    train = np.arange(40)
    scale = scan_moments(bold, train, (40, 40)).scale()
    assert scale.pooled_scans == (1,)
    z = scale.apply(bold, (40, 40), np.array([1, 4]))
    expected = (bold[:, [1, 4]] - bold[train][:, [1, 4]].mean(axis=0)) / bold[train][:, [1, 4]].std(axis=0)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)


def test_rows_outside_training_change_nothing():
    bold = RANDOM.normal(1, 2, (80, 9)).astype(np.float16)
    train = np.r_[0:30, 45:80]
    clean = scan_moments(bold, train, (40, 40))
    poison_bold = bold.copy()
    poison_bold[30:45] = np.nan
    dirty = scan_moments(poison_bold, train, (40, 40))
    for name in ("n_C", "sum_CV", "square_CV", "low_V", "high_V"):
        np.testing.assert_array_equal(getattr(clean, name), getattr(dirty, name))


def test_moments_give_the_sd_extremes_and_a_constant_voxel():
    bold = RANDOM.normal(1, 2, (80, 9)).astype(np.float32)
    bold[:, 3] = 1234.5
    train = np.arange(70)
    moments = scan_moments(bold, train, (80,))
    np.testing.assert_allclose(moments.sd_V(), np.where(np.arange(9) == 3, 0, bold[train].std(axis=0)), rtol=1e-5)
    np.testing.assert_array_equal(moments.low_V, bold[train].min(axis=0))
    np.testing.assert_array_equal(moments.high_V, bold[train].max(axis=0))
    assert not moments.scale().apply(bold, (80,), np.array([3])).any()


def test_the_vote_keeps_what_half_of_the_subjects_keep():
    sds = [np.abs(RANDOM.normal(2, 1, 200)) for _ in range(4)]
    for sd in sds:
        sd[:20] = 0
    votes = sum((sd > np.percentile(sd[sd > 0], 10)).astype(int) for sd in sds)
    np.testing.assert_array_equal(vote_mask(sds), votes >= 2)
    assert not vote_mask(sds)[:20].any()
