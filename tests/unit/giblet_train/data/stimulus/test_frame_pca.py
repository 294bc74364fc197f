"""Principal components of frames: scikit-learn's, and pictures come back."""

import numpy as np
from sklearn.decomposition import PCA

from giblet_train.data.stimulus.frame_pca import fit_frame_pca, mean_frames

FRAMES = np.random.default_rng(0).integers(0, 256, (40, 3, 5, 7, 3), dtype=np.uint8)
TRAIN = np.arange(5, 30)


def test_components_are_those_of_scikit_learn():
    ours = fit_frame_pca(FRAMES, TRAIN, 8)
    theirs = PCA(8, svd_solver="full").fit(mean_frames(FRAMES[TRAIN]).astype(float))
    scores = ours.scores(FRAMES)
    expected = theirs.transform(mean_frames(FRAMES))
    signs = np.sign((scores[TRAIN] * expected[TRAIN]).sum(axis=0))
    np.testing.assert_allclose(scores, expected * signs, atol=1e-4)
    np.testing.assert_allclose(ours.variance_F * len(TRAIN) / (len(TRAIN) - 1), theirs.explained_variance_, rtol=1e-4)


def test_rounding_directions_are_left_out_and_pictures_come_back():
    pca = fit_frame_pca(FRAMES, TRAIN, 1000)
    assert len(pca.components_FP) == len(TRAIN) - 1
    np.testing.assert_allclose(pca.components_FP @ pca.components_FP.T, np.eye(len(TRAIN) - 1), atol=1e-4)
    pictures = pca.pictures(pca.scores(FRAMES), FRAMES.shape[2:])
    expected = np.rint(mean_frames(FRAMES) * 255).reshape(pictures.shape)
    assert np.abs(pictures[TRAIN] - expected[TRAIN]).max() <= 1


def test_a_black_film_has_no_components_worth_the_name():
    pca = fit_frame_pca(np.zeros_like(FRAMES), TRAIN, 8)
    assert len(pca.components_FP) == 0
    assert pca.scores(FRAMES).shape == (40, 0)
