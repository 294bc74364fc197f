"""The features that drive the simulated brain measure what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from giblet_train.data.simulation.ground_truth import GROUPS, feature_names, ground_truth_features

T, K, H, W = 40, 3, 36, 64
TR_S = 1.5


def features(frames=None, mel=None, sentences=None):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (T, K, H, W, 3), np.uint8) if frames is None else frames
    mel = rng.normal(size=(T, 15, 64)) if mel is None else mel
    sentences = rng.normal(size=(T, 20)) if sentences is None else sentences
    return ground_truth_features(frames, mel, sentences, TR_S)


def column(group, name, **stimulus):
    return features(**stimulus)[group][:, feature_names()[group].index(name)]


def test_every_group_is_named_and_standardised():
    groups = features()
    assert tuple(groups) == GROUPS == tuple(feature_names())
    for group, values_TF in groups.items():
        assert values_TF.shape == (T, len(feature_names()[group]))
        np.testing.assert_allclose(values_TF.mean(axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(values_TF.std(axis=0), 1.0, atol=1e-5)


def test_luminance_and_its_cells_follow_the_light():
    frames = np.full((T, K, H, W, 3), 100, np.uint8)
    frames[10:20, :, : H // 3, : W // 4] = 250
    for name in ("luminance", "luminance_0_0", "contrast"):
        lit = column("low_vision", name, frames=frames)
        assert lit[10:20].min() > 0 > lit[20:].max()
    assert not column("low_vision", "luminance_2_3", frames=frames).any()


def test_motion_is_change_between_frames_also_across_trs():
    frames = np.zeros((T, K, H, W, 3), np.uint8)
    frames[20:] = 200
    motion = column("low_vision", "motion", frames=frames)
    assert motion.argmax() == 20
    assert len(np.unique(motion.round(5))) == 2


def test_colour_is_saturation_not_light():
    frames = np.full((T, K, H, W, 3), 128, np.uint8)
    frames[5:10] = (255, 0, 0)
    frames[15:20] = 255
    colour = column("low_vision", "colour", frames=frames)
    assert colour[5:10].min() > 0 > colour[15:20].max()


def test_edges_of_other_orientation_embed_elsewhere():
    stripes = np.zeros((T, K, H, W, 3), np.uint8)
    stripes[::2, :, ::4] = 255
    stripes[1::2, :, :, ::4] = 255
    first = column("high_vision", "frame_pc_0", frames=stripes)
    assert np.all(np.sign(first[::2]) == -np.sign(first[1::2]))


def test_audio_bands_are_means_of_mel_and_flux_is_their_rise():
    mel = np.zeros((T, 15, 64))
    mel[12:, :, :4] = 3.0
    assert column("audio", "mel_0", mel=mel)[12:].min() > 0
    assert not column("audio", "mel_1", mel=mel).any()
    assert column("audio", "flux", mel=mel).argmax() == 12


def test_text_is_the_pca_of_annotated_trs_and_zero_elsewhere():
    sentences = np.random.default_rng(1).normal(size=(T, 20))
    sentences[30:] = 0.0
    reference = PCA(4).fit_transform(sentences[:30])
    ours = features(sentences=sentences)["text"]
    for k in range(4):
        assert abs(np.corrcoef(ours[:30, k], reference[:, k])[0, 1]) == pytest.approx(1.0, abs=1e-6)
    assert np.ptp(ours[30:], axis=0).max() == 0.0


def test_narrative_remembers_what_text_contained():
    sentences = np.zeros((T, 20))
    sentences[:10, 0], sentences[10:, 1] = 1.0, 1.0
    groups = features(sentences=sentences)
    text, narrative = groups["text"][:, 0], groups["narrative"][:, 0]
    steps = np.abs(np.diff(text))
    assert steps.argmax() == 9
    assert np.count_nonzero(steps) == 1
    late = np.diff(narrative)[10:20]
    assert np.all(np.sign(late) == np.sign(late[0]))
    np.testing.assert_allclose(late[1:] / late[:-1], np.exp(-1.5 / 12.0), rtol=1e-3)


def test_a_film_that_never_changes_is_zero_not_nan():
    groups = features(
        frames=np.full((T, K, H, W, 3), 7, np.uint8), mel=np.zeros((T, 15, 64)), sentences=np.zeros((T, 20))
    )
    for values_TF in groups.values():
        assert not values_TF.any()
