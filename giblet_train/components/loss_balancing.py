"""How the terms are weighed against one another, beyond their fixed weights, and who pulls on the bottleneck.

`fixed` leaves the configured weights alone. `gradnorm` gives every component the same pull on the bottleneck, measured
there because only it is shared (GradNorm, Chen et al. 2018, in the form of one gradient per loss through the heads
alone). `uncertainty` learns a log variance per component (Kendall et al. 2018), clamped.
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
        """component -> its factor now; differentiable where it is learnt."""
        factors = self.factors if self.kind != "uncertainty" else (-self._clamped()).exp()
        return dict(zip(self.components, factors.unbind(), strict=True))

    def penalty(self) -> Tensor:
        """What keeps learnt factors from falling to zero; 0 otherwise."""
        return self._clamped().sum() if self.kind == "uncertainty" else torch.zeros(())

    def observe(self, pull: Mapping[str, float]) -> None:
        """Move `gradnorm`'s factors towards equal pull. pull: component -> gradient norm of weight·loss at factor 1."""
        known = [i for i, c in enumerate(self.components) if pull.get(c, 0.0) > 0.0]
        if self.kind != "gradnorm" or len(known) < 2:
            return
        norms = torch.tensor([pull[self.components[i]] for i in known])
        wanted = (norms.log().mean().exp() / norms).clamp(1.0 / LARGEST_CHANGE, LARGEST_CHANGE)
        factors = self.factors.clone()
        factors[known] = SLOWNESS * factors[known] + (1.0 - SLOWNESS) * wanted.to(factors.device)
        self.factors.copy_(factors * len(factors) / factors.sum())

    def _clamped(self) -> Tensor:
        return self.log_variance.clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)


def squared_grad_norms(terms: Mapping[str, Tensor], z: Tensor) -> dict[str, Tensor]:
    """component -> squared norm of its gradient at the bottleneck z, which stays 0 where it does not reach it."""
    pulls: dict[str, Tensor] = {}
    for component, term in terms.items():
        gradient = None
        if term.requires_grad:
            (gradient,) = torch.autograd.grad(term, z, retain_graph=True, allow_unused=True)
        pulls[component] = torch.zeros((), device=z.device) if gradient is None else gradient.float().square().sum()
    return pulls
