"""Loss terms in units of the training variance: 1.0 is the best constant, 0 is perfect, whatever the data's unit.

B windows, W window TRs, F features or compressed responses, V voxels of all subjects.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

CORRELATION_EPS = 1e-3


def scale_of(train_variance: float, scale: Literal["variance", "std", "none"]) -> float:
    """What a mean squared error is divided by. Only `variance` frees it of its unit; the others are for comparison."""
    return {"variance": train_variance, "std": math.sqrt(train_variance), "none": 1.0}[scale]


def squared_error(
    predicted_BWF: Tensor, target_BWF: Tensor, scored_BW: Tensor, weight_F: Tensor | None = None
) -> Tensor:
    """Σ over scored TRs and features of weight · error². weight_F: mean 1 over features."""
    error_BWF = (predicted_BWF - target_BWF) ** 2
    if weight_F is not None:
        error_BWF = error_BWF * weight_F
    return (error_BWF.sum(dim=-1) * scored_BW).sum()


def absolute_error(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Σ over scored TRs and voxels of |error|."""
    return ((predicted_BWV - target_BWV).abs().sum(dim=-1) * scored_BW).sum()


def correlation_distance(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Σ over windows and voxels of 1 - r, r over each window's scored TRs.

    The norm of a prediction is kept from 0 by CORRELATION_EPS of the target's, for at zero r has no gradient.
    """
    mask_BW1 = scored_BW[..., None].to(predicted_BWV.dtype)
    n_B1 = mask_BW1.sum(dim=1)
    predicted = (predicted_BWV - (predicted_BWV * mask_BW1).sum(1, keepdim=True) / n_B1[:, None]) * mask_BW1
    target = (target_BWV - (target_BWV * mask_BW1).sum(1, keepdim=True) / n_B1[:, None]) * mask_BW1
    target_norm_BV = target.norm(dim=1)
    eps_BV = CORRELATION_EPS * target_norm_BV + torch.finfo(target.dtype).tiny
    r_BV = (predicted * target).sum(dim=1) / ((predicted.norm(dim=1) + eps_BV) * (target_norm_BV + eps_BV))
    distance: Tensor = (1.0 - r_BV).sum()
    return distance
