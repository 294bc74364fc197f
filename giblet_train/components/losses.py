"""Loss terms relative to the loss of the best constant in training: 1.0 is that constant, in any unit of the data.

That is the variance of amounts, and the cross-entropy of categories. B windows, W window TRs, F features or compressed
responses, V voxels of all subjects, M books of Q codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

CORRELATION_EPS = 1e-3


def scale_of(constant_loss: float, scale: Literal["variance", "std", "none"], codes: bool = False) -> float:
    """Return the divisor of a term. constant_loss: the best constant's loss, the training variance for a squared error.

    Only `variance` makes a squared error independent of the unit; the others are for comparison. For a cross-entropy,
    `std` equals `variance`, and `none` leaves nats.
    """
    return {"variance": constant_loss, "std": constant_loss if codes else math.sqrt(constant_loss), "none": 1.0}[scale]


def squared_error(
    predicted_BWF: Tensor, target_BWF: Tensor, scored_BW: Tensor, weight_F: Tensor | None = None
) -> Tensor:
    """Return Σ over scored TRs and features of weight · error². weight_F: mean 1 over features."""
    error_BWF = (predicted_BWF - target_BWF) ** 2
    if weight_F is not None:
        error_BWF = error_BWF * weight_F
    return (error_BWF.sum(dim=-1) * scored_BW).sum()


def cross_entropy(logits_BWF: Tensor, shares_BWF: Tensor, scored_BW: Tensor, log_unigram_MQ: Tensor) -> Tensor:
    """Return Σ over scored TRs and books of the mean over a TR's moments of -log p(code), in nats.

    shares_BWF: share of the moments with each code. Logits are added to the log frequency of each code in training, so
    that zeros are the best constant.
    """
    logits_BWMQ = logits_BWF.reshape(*logits_BWF.shape[:-1], *log_unigram_MQ.shape) + log_unigram_MQ
    surprise_BW = -(shares_BWF * logits_BWMQ.log_softmax(dim=-1).flatten(-2)).sum(dim=-1)
    total: Tensor = (surprise_BW * scored_BW).sum()
    return total


def absolute_error(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Return Σ over scored TRs and voxels of |error|."""
    return ((predicted_BWV - target_BWV).abs().sum(dim=-1) * scored_BW).sum()


def correlation_distance(predicted_BWV: Tensor, target_BWV: Tensor, scored_BW: Tensor) -> Tensor:
    """Return Σ over windows and voxels of 1 - r, r over each window's scored TRs.

    CORRELATION_EPS of the target's norm is added to the prediction's, because r has no gradient at zero. A response
    that is constant within a window has r 0.
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


@dataclass(frozen=True)
class EncodingLoss:
    """One kind of `fmri_loss_type`: how predicted responses are compared with measured ones."""

    error: Callable[[Tensor, Tensor, Tensor], Tensor]
    """(predicted, target, scored) -> error summed over what `per_window` says and over responses."""
    is_squared_error: bool = False
    """True for a squared error: it can be computed in compressed scores, and is scaled by the variance."""
    per_window: bool = False
    """True if the error is a mean over windows instead of scored TRs; it then has no unit and no scale."""
    fewest_trs: int = 1
    """Scored TRs that a window needs."""
    flat_at_zero: bool = False
    """True if the gradient vanishes for zero heads, which are then initialised to small random numbers."""


ENCODING_LOSSES: Mapping[str, EncodingLoss] = {
    "mse": EncodingLoss(squared_error, is_squared_error=True),
    "mae": EncodingLoss(absolute_error),
    "correlation": EncodingLoss(correlation_distance, per_window=True, fewest_trs=3, flat_at_zero=True),
}
"""`fmri_loss_type` -> loss. Its names are those of the configuration key; a test keeps the two equal."""
