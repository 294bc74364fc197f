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
    """A shared hidden layer and the latents, mapped to each modality by a linear map that is initialised to zero.

    A decoder looks forward in time because the response lags the stimulus by about five seconds.
    """

    def __init__(self, n_latents: int, width: int, n_features: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        n_inputs = n_latents * (LOOK_AHEAD_TRS + 1)
        self.dropout = dropout
        self.hidden = nn.Linear(n_inputs, width)
        self.maps = nn.ModuleDict({m: zero_linear(n_inputs + width, n) for m, n in n_features.items()})

    def forward(self, z_BWK: Tensor, noise: StatelessDropout | None) -> dict[str, Tensor]:
        """Map latents (B, W, K) to modality -> (B, W, F); zeros are used after the window."""
        ahead_BWAK = F.pad(z_BWK, (0, 0, 0, LOOK_AHEAD_TRS)).unfold(1, LOOK_AHEAD_TRS + 1, 1)
        ahead_BWI = ahead_BWAK.flatten(2)
        both = torch.cat([ahead_BWI, F.gelu(self.hidden(ahead_BWI))], dim=-1)
        if noise is not None:
            both = noise.dropout(both, self.dropout)
        return {m: linear(both) for m, linear in self.maps.items()}


def zero_linear(n_in: int, n_out: int) -> nn.Linear:
    """Return a linear map initialised to zero."""
    linear = nn.Linear(n_in, n_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
