"""The optimizer: AdamW with decay on matrices only, and an average of the weights that is what gets evaluated."""

from __future__ import annotations

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

BETAS = (0.9, 0.98)
Model = TypeVar("Model", bound=nn.Module)


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); vectors, scalars and response kernels are not decayed."""
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and "kernel" not in name]
    other = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "kernel" not in name)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": other, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use `rate` for the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


class ExponentialMovingAverage(Generic[Model]):
    """An exponential moving average of weights: steadier than the weights themselves.

    Early values are not held back by the start: the decay grows as (1 + n) / (10 + n) up to `decay`.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: Model, step: int) -> None:
        """Take in the weights after `step` (from 0)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        weights = model.state_dict()
        for name, mean in self.model.state_dict().items():
            mean.lerp_(weights[name], 1.0 - decay)
