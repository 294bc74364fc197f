"""Balance the loss terms beyond their fixed weights, and measure their gradients at the bottleneck.

`fixed` keeps the configured weights. `gradnorm` gives every component the same gradient norm at the bottleneck, which
all of them share (GradNorm, Chen et al. 2018, with one gradient per loss through the heads alone). `uncertainty` learns
a log variance per component (Kendall et al. 2018), kept within ±LARGEST_LOG_VARIANCE
after every step: bounding it in the forward pass would leave it without a gradient outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

SLOWNESS = 0.9
LARGEST_CHANGE = 5.0
LARGEST_LOG_VARIANCE = 2.0


class LossBalancer(nn.Module):
    """Factors that multiply the configured weights; their mean stays 1 for `gradnorm`."""

    factors: Tensor

    def __init__(self, kind: Literal["fixed", "gradnorm", "uncertainty"], components: Sequence[str]) -> None:
        super().__init__()
        self.kind = kind
        self.components = tuple(components)
        self.register_buffer("factors", torch.ones(len(self.components)))
        if kind == "uncertainty":
            self.log_variance = nn.Parameter(torch.zeros(len(self.components)))

    def factor_of(self) -> dict[str, Tensor]:
        """Return component -> current factor; differentiable if it is learnt."""
        factors = self.factors if self.kind != "uncertainty" else (-self.log_variance).exp()
        return dict(zip(self.components, factors.unbind(), strict=True))

    def penalty(self) -> Tensor:
        """Return the penalty that prevents learnt factors from falling to zero; 0 for fixed ones."""
        return self.log_variance.sum() if self.kind == "uncertainty" else torch.zeros(())

    @torch.no_grad()
    def limit(self) -> None:
        """Limit learnt log variances, after each step of the optimizer."""
        if self.kind == "uncertainty":
            self.log_variance.clamp_(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)

    def observe(self, norms: Mapping[str, float]) -> None:
        """Move `gradnorm`'s factors towards equal norms. norms: component -> gradient norm of its weighted loss."""
        measured = [i for i, c in enumerate(self.components) if norms.get(c, 0.0) > 0.0]
        if self.kind != "gradnorm" or len(measured) < 2:
            return
        norm_M = torch.tensor([norms[self.components[i]] for i in measured])
        target_M = (norm_M.log().mean().exp() / norm_M).clamp(1.0 / LARGEST_CHANGE, LARGEST_CHANGE)
        factors = self.factors.clone()
        factors[measured] = SLOWNESS * factors[measured] + (1.0 - SLOWNESS) * target_M.to(factors.device)
        self.factors.copy_(factors * len(factors) / factors.sum())


def squared_grad_norms(terms: Mapping[str, Tensor], z: Tensor) -> dict[str, Tensor]:
    """Return component -> squared norm of its gradient at the bottleneck z, 0 if it does not depend on z."""
    squared_norms: dict[str, Tensor] = {}
    for component, term in terms.items():
        gradient = None
        if term.requires_grad:
            (gradient,) = torch.autograd.grad(term, z, retain_graph=True, allow_unused=True)
        squared_norms[component] = (
            torch.zeros((), device=z.device) if gradient is None else gradient.float().square().sum()
        )
    return squared_norms
