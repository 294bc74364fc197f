"""The summary of a posterior is that of its probabilities."""

import numpy as np
import pytest

from giblet_train.components.marginal_likelihood import EXPLAINED
from giblet_train.components.voxel_posterior import NONLINEAR, interval, space_group, voxel_posterior

SHARES = (0.0, 0.1, 0.3, 0.5)


def posterior(belief_VCH):
    weights = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.3, 0.3, 0.4]])
    spaces, memories = ["video", "audio", "audio"], np.array([0.0, 0.0, 15.0])
    below_VG = (belief_VCH.sum(axis=1)[:, None] * (np.array(SHARES) <= EXPLAINED[:, None])).sum(axis=-1)
    return voxel_posterior(belief_VCH, belief_VCH.sum(axis=1), below_VG, SHARES, weights, spaces, memories)


def test_each_voxel_is_named_after_the_space_that_explains_most_of_it():
    belief = np.zeros((4, 3, 4))
    belief[0, 0, 2] = 1.0  # video alone
    belief[1, 1, 3] = 1.0  # audio with a memory
    belief[2, 0, 2] = belief[2, 1, 2] = 0.5  # either
    belief[3, 0, 0] = 0.9  # probably nothing
    belief[3, 0, 1] = 0.1
    v = posterior(belief)
    assert v.spaces == ("video", "audio") and v.preferred_names == ("video", "audio", "mixed")
    assert v.preferred_V.tolist() == [0, 1, 2, -1]
    assert v.explained_V == pytest.approx([0.3, 0.5, 0.3, 0.01], abs=0.006)
    assert v.memory_s_V == pytest.approx([0.0, 15.0, 7.5, 0.0])
    assert v.share_VM.sum(axis=1) == pytest.approx(1.0)
    assert v.unique_VM.sum(axis=1) == pytest.approx(v.explained_V)


def test_an_interval_holds_its_share_of_the_posterior():
    even_G = EXPLAINED  # any share is as probable as any other
    never_G = np.ones_like(EXPLAINED)  # certainly nothing
    often_G = np.maximum(even_G, 0.5)  # nothing with a probability of one half
    low, high = interval(np.stack([even_G, never_G, often_G]), EXPLAINED, 0.9)
    assert low == pytest.approx([0.05, 0.0, 0.0]) and high == pytest.approx([0.95, 0.0, 0.95])


def test_products_of_several_modalities_are_nonlinear():
    assert [space_group(s) for s in ("video", "video_x_video", "audio_x_video", "rectified")] == [
        "video", "video", NONLINEAR, NONLINEAR,
    ]  # fmt: skip
