"""AdamW with weight decay on matrices only, and the average of the weights that is evaluated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw as torch_adamw

BETAS = (0.9, 0.98)
EPS = 1e-8
Model = TypeVar("Model", bound=nn.Module)


class ParameterGroup(TypedDict):
    """Parameters with the same settings."""

    params: list[nn.Parameter]
    weight_decay: float
    lr: float


class AdamW:
    """AdamW (Loshchilov and Hutter 2019) with the computation and the state of `torch.optim.AdamW`.

    The class of torch imports torch's compiler: a second of work and 70 MB of memory in each process.
    """

    def __init__(self, groups: Sequence[ParameterGroup]) -> None:
        self.param_groups = list(groups)
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update each parameter that has a gradient."""
        for group in self.param_groups:
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            states = [self._state_of(p) for p in parameters]
            torch_adamw(
                parameters,
                [p.grad for p in parameters if p.grad is not None],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                max_exp_avg_sqs=[],
                state_steps=[state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=EPS,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Remove the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def adamw(model: nn.Module, learning_rate: float, weight_decay: float) -> AdamW:
    """Return the optimizer of a model; vectors, scalars and response kernels are not decayed."""
    decay_parameters = [p for name, p in model.named_parameters() if p.ndim == 2 and "kernel" not in name]
    other = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "kernel" not in name)]
    return AdamW(
        [
            {"params": decay_parameters, "weight_decay": weight_decay, "lr": learning_rate},
            {"params": other, "weight_decay": 0.0, "lr": learning_rate},
        ]
    )


def set_rate(optimizer: AdamW, rate: float) -> None:
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
