"""Loss terms against numpy, and 1.0 for the best constant."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from giblet_train.components.losses import (
    ENCODING_LOSSES,
    absolute_error,
    correlation_distance,
    scale_of,
    squared_error,
)
from giblet_train.schema.config import Config

RNG = np.random.default_rng(0)
PREDICTED, TARGET = RNG.normal(size=(2, 3, 20, 5)).astype(np.float32)
SCORED = np.ones((3, 20), bool)
SCORED[:, :6] = False


def tensors():
    return torch.from_numpy(PREDICTED), torch.from_numpy(TARGET), torch.from_numpy(SCORED)


def test_squared_and_absolute_errors_count_scored_trs_alone():
    error = (PREDICTED - TARGET)[SCORED]
    weight = np.array([2.0, 1.0, 0.5, 0.5, 1.0], np.float32)
    assert squared_error(*tensors()).item() == pytest.approx((error**2).sum(), rel=1e-5)
    weighted = squared_error(*tensors(), torch.from_numpy(weight)).item()
    assert weighted == pytest.approx((error**2 * weight).sum(), rel=1e-5)
    assert absolute_error(*tensors()).item() == pytest.approx(np.abs(error).sum(), rel=1e-5)


def test_correlation_distance_is_one_minus_pearson():
    expected = sum(
        np.sum([1 - np.corrcoef(p[m][:, v], t[m][:, v])[0, 1] for v in range(5)])
        for p, t, m in zip(PREDICTED, TARGET, SCORED, strict=True)
    )
    assert correlation_distance(*tensors()).item() == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("dead_voxel", [False, True])
def test_correlation_distance_of_a_constant_is_one_and_has_a_finite_gradient(dead_voxel):
    predicted, target, mask = tensors()
    target = target * torch.tensor([0.0 if dead_voxel else 1.0, 1.0, 1.0, 1.0, 1.0])
    flat = torch.zeros_like(predicted, requires_grad=True)
    distance = correlation_distance(flat, target, mask)
    distance.backward()
    assert distance.item() == pytest.approx(SCORED.shape[0] * TARGET.shape[-1])
    assert torch.isfinite(flat.grad).all()


def test_a_response_that_does_not_change_has_no_correlation():
    predicted, target, mask = tensors()
    target[0, :, 2] = 0.0
    predicted.requires_grad_()
    correlation_distance(predicted, target, mask).backward()
    assert torch.isfinite(predicted.grad).all() and not predicted.grad[0, :, 2].any()
    alone = torch.zeros(1, 20, 1)
    assert correlation_distance(alone, alone, mask[:1]).item() == 1.0


def test_scales():
    assert [scale_of(4.0, s) for s in ("variance", "std", "none")] == [4.0, 2.0, 1.0]


def test_the_registry_has_the_names_of_the_configuration_key():
    assert tuple(ENCODING_LOSSES) == get_args(get_type_hints(Config)["fmri_loss_type"])
