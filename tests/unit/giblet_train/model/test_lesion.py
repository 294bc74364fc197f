"""Lesions against a ridge inverse solved voxel by voxel."""

import numpy as np
import pytest
import torch

from giblet_train.components.build import TrainingSetup
from giblet_train.model.lesion import VoxelReadout
from tests.engine_study import ALONE, config, split_data


@pytest.fixture(scope="module")
def brain():
    data = split_data()
    setup = TrainingSetup.build(config(), data, ALONE)
    model = setup.train_step.model
    with torch.no_grad():
        for part in model.heads.parts.values():
            part.normal_(generator=torch.Generator().manual_seed(0))
    return data, model, setup.compression


def solved(brain, subjects, lost_V, mode):
    data, model, compression = brain
    weight_KR = model.reading_KR.detach().numpy()
    heads = {s: compression.expand(s, weight_KR) for s in subjects}
    expected = {s: h * ~lost_V for s, h in heads.items()} if mode == "missing" else heads
    normal = sum(h @ h.T for h in expected.values()) + model.log_ridge.exp().item() * np.eye(len(weight_KR))
    return np.linalg.solve(normal, sum(heads[s] @ (data.bold[s] * ~lost_V).T for s in subjects)).T


@pytest.mark.parametrize("mode", ["silence", "missing"])
@pytest.mark.parametrize("one_subject", [False, True])
def test_a_lesion_is_what_it_says(brain, mode, one_subject):
    data, model, compression = brain
    subjects = data.subjects[1:2] if one_subject else data.subjects
    readout = VoxelReadout.of(model, compression, {s: data.bold[s] for s in subjects})
    result = readout.latents(data.responsive_V, mode).numpy()
    expected = solved(brain, subjects, data.responsive_V, mode)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_the_two_modes_differ_and_no_lesion_changes_nothing(brain):
    data, model, compression = brain
    readout = VoxelReadout.of(model, compression, data.bold)
    scores_TR = np.zeros((data.split.n_trs, compression.n_columns), np.float32)
    for subject, bold_TV in data.bold.items():
        compression.add_scores(scores_TR, subject, bold_TV)
    whole = model.readout([torch.from_numpy(scores_TR)])[0].detach()
    for mode in ("silence", "missing"):
        same = readout.latents(np.zeros(data.n_voxels, bool), mode)
        torch.testing.assert_close(same, whole, rtol=1e-3, atol=1e-3)
    silence, missing = (readout.latents(data.responsive_V, mode) for mode in ("silence", "missing"))
    assert not torch.allclose(silence, missing, rtol=0.05)
