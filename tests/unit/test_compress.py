"""The compressed loss and its gradient at the bottleneck equal those over every voxel."""

import numpy as np
import pytest
import torch

from giblet_train.contract.errors import DataError
from giblet_train.model.compress import compress
from giblet_train.shards import Shards
from giblet_train.targets import targets_of
from tests.engine_study import ALONE, split_data

KINDS = ("joint", "per_subject", "none")


@pytest.fixture(scope="module")
def data():
    return split_data(n_voxels=90)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_those_over_every_voxel(data, kind):
    compression = compress(kind, data.bold, data.split.train)
    targets = targets_of(data, compression, Shards(ALONE, data.subjects))
    rng = np.random.default_rng(1)
    head_KR = torch.tensor(rng.normal(size=(5, compression.n_columns)), dtype=torch.float64)
    z = rng.normal(size=(len(data.split.train), 5))
    losses, gradients = [], []
    for voxelwise in (False, True):
        z_TK = torch.tensor(z, requires_grad=True)
        if voxelwise:
            loss = 0.0
            for subject in data.subjects:
                head_KV = torch.tensor(compression.expand(subject, head_KR.numpy()), dtype=torch.float64)
                bold_TV = torch.tensor(data.bold[subject][data.split.train], dtype=torch.float64)
                loss = loss + ((z_TK @ head_KV - bold_TV) ** 2).sum()
        else:
            loss = ((z_TK @ head_KR - targets.scores_TR[data.split.train].double()) ** 2).sum()
            loss = loss + targets.rest_T[data.split.train].double().sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append(z_TK.grad.numpy())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-5 * np.abs(gradients[1]).max())


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_loss_counts_what_the_compression_leaves_out(data, kind):
    compression = compress(kind, data.bold, data.split.train)
    targets = targets_of(data, compression, Shards(ALONE, data.subjects))
    rng = np.random.default_rng(2)
    predicted_TR = rng.normal(size=(len(data.split.test), compression.n_columns)).astype(np.float32)
    rows = data.split.test
    short = ((predicted_TR - targets.scores_TR[rows].numpy()) ** 2).sum() + targets.rest_T[rows].numpy().sum()
    whole = sum(((compression.expand(s, predicted_TR) - data.bold[s][rows]) ** 2).sum() for s in data.subjects)
    assert short == pytest.approx(whole, rel=1e-4)


def test_rows_are_orthonormal_and_parts_are_group_then_deviation(data):
    compression = compress("joint", data.bold, data.split.train)
    assert [p.name for p in compression.parts] == ["group", "deviation"]
    unit_RR = np.eye(compression.n_columns, dtype=np.float32)
    rows = [compression.expand(s, unit_RR) for s in data.subjects]
    np.testing.assert_allclose(sum(rows_RV @ rows_RV.T for rows_RV in rows), unit_RR, atol=2e-3)


def test_one_subject_has_no_deviation():
    data = split_data(n_subjects=1)
    assert [p.name for p in compress("joint", data.bold, data.split.train).parts] == ["group"]


def test_only_training_trs_are_read(data):
    poisoned = {s: x.copy() for s, x in data.bold.items()}
    outside = np.setdiff1d(np.arange(data.split.n_trs), data.split.train)
    for bold_TV in poisoned.values():
        bold_TV[outside] = np.nan
    clean, dirty = (compress("joint", bold, data.split.train) for bold in (data.bold, poisoned))
    for subject in data.subjects:
        for (_, rows), (_, poisoned_rows) in zip(clean.basis[subject], dirty.basis[subject], strict=True):
            np.testing.assert_array_equal(rows, poisoned_rows)


def test_constant_responses_are_refused():
    with pytest.raises(DataError, match="constant"):
        compress("joint", {"sub-01": np.zeros((20, 4), np.float32)}, np.arange(20))
