"""AdamW with weight decay on matrices only, and the average of the weights that is evaluated."""

from __future__ import annotations

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

BETAS = (0.9, 0.98)
Model = TypeVar("Model", bound=nn.Module)


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov and Hutter 2019); vectors, scalars and response kernels are not decayed."""
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "kernel" not in name]
    other = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "kernel" not in name)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": other, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ExponentialMovingAverage(Generic[Model]):
    """Exponential moving average of the weights.

    The decay grows as (1 + n) / (10 + n) up to `decay`, so that the initial weights do not weigh on early averages.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Update the average with the weights after `step` (from 0)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        for mean, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(weight, 1.0 - decay)
