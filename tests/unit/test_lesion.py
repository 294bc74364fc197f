"""Lesions against a ridge inverse solved voxel by voxel."""

import numpy as np
import pytest
import torch

from giblet_train.distributed import Ranks
from giblet_train.experiment import Experiment
from giblet_train.model.compress import compress
from giblet_train.model.lesion import lesioned_latents
from tests.engine_study import config, split_data


@pytest.fixture(scope="module")
def brain():
    data = split_data()
    model = Experiment.of(config(), data, Ranks(0, 1, torch.device("cpu"))).learner.model
    with torch.no_grad():
        for part in model.heads.parts.values():
            part.normal_(generator=torch.Generator().manual_seed(0))
    compression = compress("joint", data.bold, data.split.train)
    return data, model, compression


@pytest.mark.parametrize("mode", ["silence", "missing"])
def test_a_lesion_is_what_it_says(brain, mode):
    data, model, compression = brain
    kept_V = ~data.responsive_V
    weight_KR = model.heads.weight_KR.detach().numpy()
    heads = {s: compression.expand(s, weight_KR) for s in data.subjects}
    expected_heads = {s: h * kept_V for s, h in heads.items()} if mode == "missing" else heads
    normal = sum(h @ h.T for h in expected_heads.values()) + model.log_ridge.exp().item() * np.eye(len(weight_KR))
    seen = sum(heads[s] @ (data.bold[s] * kept_V).T for s in data.subjects)
    found = lesioned_latents(model, compression, data.bold, kept_V, mode).detach().numpy()
    np.testing.assert_allclose(found, np.linalg.solve(normal, seen).T, rtol=5e-3, atol=5e-3 * np.abs(found).max())


def test_the_two_modes_differ_and_no_lesion_changes_nothing(brain):
    data, model, compression = brain
    whole = model.read(torch.from_numpy(sum(compression.scores_of(s, x) for s, x in data.bold.items())))
    for mode in ("silence", "missing"):
        same = lesioned_latents(model, compression, data.bold, np.ones(data.n_voxels, bool), mode)
        np.testing.assert_allclose(same.detach(), whole.detach(), rtol=1e-3, atol=1e-3)
    silence, missing = (
        lesioned_latents(model, compression, data.bold, data.responsive_V, mode) for mode in ("silence", "missing")
    )
    assert not torch.allclose(silence, missing, rtol=0.05)
