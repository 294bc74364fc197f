"""The compressed loss and its gradient at the bottleneck equal those over every voxel."""

import numpy as np
import pytest
import torch

from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.targets import targets_of
from giblet_train.model.voxel_basis import compress
from giblet_train.schema.errors import DataError
from tests.engine_study import ALONE, split_data

KINDS = ("joint", "per_subject", "none")


@pytest.fixture(scope="module", params=[90, 40], ids=["more-voxels-than-trs", "fewer-voxels-than-trs"])
def data(request):
    return split_data(n_voxels=request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_equal_those_over_every_voxel(data, kind):
    compression = compress(kind, data.bold, data.split.train)
    targets = targets_of(data, compression, HeadSharding(ALONE, data.subjects))
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
            loss = loss + targets.residual_energy_T[data.split.train].double().sum()
        loss.backward()
        losses.append(loss.item())
        gradients.append(z_TK.grad.numpy())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-5 * np.abs(gradients[1]).max())


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_loss_counts_what_the_compression_leaves_out(data, kind):
    compression = compress(kind, data.bold, data.split.train)
    targets = targets_of(data, compression, HeadSharding(ALONE, data.subjects))
    rng = np.random.default_rng(2)
    predicted_TR = rng.normal(size=(len(data.split.test), compression.n_columns)).astype(np.float32)
    rows = data.split.test
    short = ((predicted_TR - targets.scores_TR[rows].numpy()) ** 2).sum() + targets.residual_energy_T[
        rows
    ].numpy().sum()
    whole = sum(((compression.expand(s, predicted_TR) - data.bold[s][rows]) ** 2).sum() for s in data.subjects)
    assert short == pytest.approx(whole, rel=1e-4)


def test_rows_are_orthonormal_and_parts_are_group_then_deviation(data):
    compression = compress("joint", data.bold, data.split.train)
    assert [p.name for p in compression.parts] == ["group", "deviation"]
    unit_RR = np.eye(compression.n_columns, dtype=np.float32)
    rows = [compression.expand(s, unit_RR) for s in data.subjects]
    np.testing.assert_allclose(sum(rows_RV @ rows_RV.T for rows_RV in rows), unit_RR, atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_subjects", [1, 3])
def test_heads_that_leave_the_span_are_held_and_the_loss_stays_that_of_every_voxel(kind, n_subjects):
    data = split_data(n_voxels=250, n_subjects=n_subjects)
    rng = np.random.default_rng(3)
    group_KV = rng.normal(size=(4, data.n_voxels)).astype(np.float32)
    own_SKV = rng.normal(size=(n_subjects, 4, data.n_voxels)).astype(np.float32)
    own = dict(zip(data.subjects, own_SKV - own_SKV.mean(axis=0), strict=True)) if n_subjects > 1 else {}
    narrow = compress(kind, data.bold, data.split.train)
    wide, heads_KR = narrow.extended_by(group_KV, own)
    for subject in data.subjects:
        np.testing.assert_allclose(wide.expand(subject, heads_KR), group_KV + own.get(subject, 0.0), atol=2e-3)
    targets = targets_of(data, wide, HeadSharding(ALONE, data.subjects))
    assert targets.residual_energy_T[data.split.train].max() < 0.05
    z_TK = rng.normal(size=(len(data.split.train), 4)).astype(np.float32)
    short_TR = z_TK @ heads_KR - targets.scores_TR[data.split.train].numpy()
    short = (short_TR**2).sum(), short_TR @ heads_KR.T
    long_TV = [z_TK @ (group_KV + own.get(s, 0.0)) - data.bold[s][data.split.train] for s in data.subjects]
    pulls = [x @ (group_KV + own.get(s, 0.0)).T for s, x in zip(data.subjects, long_TV, strict=True)]
    assert short[0] == pytest.approx(sum((x**2).sum() for x in long_TV), rel=1e-4)
    np.testing.assert_allclose(short[1], sum(pulls), rtol=1e-3, atol=1e-4 * np.abs(sum(pulls)).max())
    if kind != "none":
        assert wide.n_columns == narrow.n_columns + 4 * len(narrow.parts)


def test_what_heads_add_to_the_basis_is_orthogonal_and_the_group_is_kept_once(data):
    rng = np.random.default_rng(4)
    own_SKV = rng.normal(size=(3, 2, data.n_voxels)).astype(np.float32)
    own = dict(zip(data.subjects, own_SKV - own_SKV.mean(axis=0), strict=True))
    wide, _ = compress("joint", data.bold, data.split.train).extended_by(own_SKV[0], own)
    unit_RR = np.eye(wide.n_columns, dtype=np.float32)
    rows = [wide.expand(s, unit_RR) for s in data.subjects]
    np.testing.assert_allclose(sum(rows_RV @ rows_RV.T for rows_RV in rows), unit_RR, atol=3e-3)
    assert len({id(wide.basis[s][0][1]) for s in data.subjects}) == 1


def test_one_subject_has_no_deviation():
    data = split_data(n_subjects=1)
    assert [p.name for p in compress("joint", data.bold, data.split.train).parts] == ["group"]


def test_only_training_trs_are_read(data):
    poison_bold = {s: x.copy() for s, x in data.bold.items()}
    outside = np.setdiff1d(np.arange(data.split.n_trs), data.split.train)
    for bold_TV in poison_bold.values():
        bold_TV[outside] = np.nan
    clean, dirty = (compress("joint", bold, data.split.train) for bold in (data.bold, poison_bold))
    for subject in data.subjects:
        for (_, rows), (_, poisoned_rows) in zip(clean.basis[subject], dirty.basis[subject], strict=True):
            np.testing.assert_array_equal(rows, poisoned_rows)


def test_constant_responses_are_refused():
    with pytest.raises(DataError, match="constant"):
        compress("joint", {"sub-01": np.zeros((20, 4), np.float32)}, np.arange(20))
