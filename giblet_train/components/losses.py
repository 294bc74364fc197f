"""Loss terms in units of what the best constant scores in training: 1.0 is that constant, whatever the data's unit.

That is the variance of amounts, and the cross-entropy of categories. B windows, W window TRs, F features or compressed
responses, V voxels of all subjects, M books of Q codes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

CORRELATION_EPS = 1e-3


def scale_of(constant_loss: float, scale: Literal["variance", "std", "none"], codes: bool = False) -> float:
    """What a term is divided by; constant_loss: the best constant's, the training variance for a mean squared error.

    Only `variance` frees a squared error of its unit; the others are for comparison. A cross-entropy has no standard
    deviation to be divided by in error: `std` leaves it as `variance` does, `none` in nats.
    """
    return {"variance": constant_loss, "std": constant_loss if codes else math.sqrt(constant_loss), "none": 1.0}[scale]


def squared_error(
    predicted_BWF: Tensor, target_BWF: Tensor, scored_BW: Tensor, weight_F: Tensor | None = None
) -> Tensor:
    """Σ over scored TRs and features of weight · error². weight_F: mean 1 over features."""
    error_BWF = (predicted_BWF - target_BWF) ** 2
    if weight_F is not None:
        error_BWF = error_BWF * weight_F
    return (error_BWF.sum(dim=-1) * scored_BW).sum()


def cross_entropy(logits_BWF: Tensor, shares_BWF: Tensor, scored_BW: Tensor, log_unigram_MQ: Tensor) -> Tensor:
    """Σ over scored TRs and books of the mean over a TR's moments of -log p(code), in nats.

    shares_BWF: of the moments that have each code. Logits are added to the log of how often a code occurs in training,
    so that zeros are the best constant.
    """
    logits_BWMQ = logits_BWF.reshape(*logits_BWF.shape[:-1], *log_unigram_MQ.shape) + log_unigram_MQ
    surprise_BW = -(shares_BWF * logits_BWMQ.log_softmax(dim=-1).flatten(-2)).sum(dim=-1)
    total: Tensor = (surprise_BW * scored_BW).sum()
    return total


def absolute_error(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Σ over scored TRs and voxels of |error|."""
    return ((predicted_BWV - target_BWV).abs().sum(dim=-1) * scored_BW).sum()


def correlation_distance(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Σ over windows and voxels of 1 - r, r over each window's scored TRs.

    The norm of a prediction is kept from 0 by CORRELATION_EPS of the target's, for at zero r has no gradient. A
    response that does not change within a window has r 0.
    """
    mask_BW1 = scored_BW[..., None].to(predicted_BWV.dtype)
    n_B1 = mask_BW1.sum(dim=1)
    predicted = (predicted_BWV - (predicted_BWV * mask_BW1).sum(1, keepdim=True) / n_B1[:, None]) * mask_BW1
    target = (target_BWV - (target_BWV * mask_BW1).sum(1, keepdim=True) / n_B1[:, None]) * mask_BW1
    target_norm_BV = target.norm(dim=1)
    eps_BV = CORRELATION_EPS * target_norm_BV
    size_BV = (predicted.norm(dim=1) + eps_BV) * (target_norm_BV + eps_BV)
    r_BV = (predicted * target).sum(dim=1) / size_BV.clamp_min(torch.finfo(size_BV.dtype).tiny)
    distance: Tensor = (1.0 - r_BV).sum()
    return distance
