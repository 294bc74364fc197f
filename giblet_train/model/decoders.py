"""Decoders: the film's features at t from the latents that brains show at t to t + 8.

B windows, W window TRs, K latents, A look-ahead TRs and the present one, I = A·K inputs, F features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from giblet_train.model.dropout import StatelessDropout

LOOK_AHEAD_TRS = 8


class Decoders(nn.Module):
    """For each modality, latents and a hidden layer of its own, mapped to features by a linear map.

    The map is zero at first, or a linear decoder of the latents (`start_from`). Modalities share no weight, so that
    each keeps its own best ones. A decoder looks forward in time because the response lags the stimulus by about five
    seconds.
    """

    def __init__(self, n_latents: int, width: int, n_features: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        n_inputs = n_latents * (LOOK_AHEAD_TRS + 1)
        self.dropout = dropout
        self.hidden = nn.ModuleDict({m: nn.Linear(n_inputs, width) for m in n_features})
        self.maps = nn.ModuleDict({m: zero_linear(n_inputs + width, n) for m, n in n_features.items()})

    def forward(self, z_BWK: Tensor, noise: StatelessDropout | None) -> dict[str, Tensor]:
        """Map latents (B, W, K) to modality -> (B, W, F)."""
        ahead_BWI = self.inputs(z_BWK)
        return {m: linear(self._units(m, ahead_BWI, noise)) for m, linear in self.maps.items()}

    def inputs(self, z_BWK: Tensor) -> Tensor:
        """Return the latents of each TR and those ahead of it (B, W, I); zeros are used after the window."""
        ahead_BWAK = F.pad(z_BWK, (0, 0, 0, LOOK_AHEAD_TRS)).unfold(1, LOOK_AHEAD_TRS + 1, 1)
        return ahead_BWAK.flatten(2)

    @torch.no_grad()
    def start_from(self, modality: str, weight_FI: Tensor, bias_F: Tensor) -> None:
        """Set the map of a modality to a linear decoder of the inputs, to which hidden units add nothing at first."""
        linear = self.maps.get_submodule(modality)
        linear.get_parameter("weight")[:, : weight_FI.shape[1]] = weight_FI
        linear.get_parameter("bias").copy_(bias_F)

    def parameters_of(self, modality: str) -> list[nn.Parameter]:
        """Return the weights of one modality's decoder."""
        return [*self.hidden[modality].parameters(), *self.maps[modality].parameters()]

    def _units(self, modality: str, ahead_BWI: Tensor, noise: StatelessDropout | None) -> Tensor:
        units_BWU = torch.cat([ahead_BWI, F.gelu(self.hidden[modality](ahead_BWI))], dim=-1)
        return units_BWU if noise is None else noise.dropout(units_BWU, self.dropout)


def zero_linear(n_in: int, n_out: int) -> nn.Linear:
    """Return a linear map initialised to zero."""
    linear = nn.Linear(n_in, n_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
