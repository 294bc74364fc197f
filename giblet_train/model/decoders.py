"""Decoders: what was seen, heard and told at t, from the latents that brains show at t to t + 8.

B windows, W window TRs, K latents, A look-ahead TRs and the present one, H hidden, F features.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from giblet_train.model.dropout import StatelessDropout

LOOK_AHEAD_TRS = 8


class Decoders(nn.Module):
    """A shared hidden layer and the latents themselves, mapped to each modality by a linear map that starts at zero.

    The response lags the stimulus by some five seconds, so a decoder must look forward in time.
    """

    def __init__(self, n_latents: int, width: int, n_features: Mapping[str, int], dropout: float) -> None:
        super().__init__()
        n_seen = n_latents * (LOOK_AHEAD_TRS + 1)
        self.dropout = dropout
        self.hidden = nn.Linear(n_seen, width)
        self.maps = nn.ModuleDict({m: zero_linear(n_seen + width, n) for m, n in n_features.items()})

    def forward(self, z_BWK: Tensor, noise: StatelessDropout | None) -> dict[str, Tensor]:
        """(B, W, K) to modality -> (B, W, F); after the window there is nothing."""
        ahead_BWAK = F.pad(z_BWK, (0, 0, 0, LOOK_AHEAD_TRS)).unfold(1, LOOK_AHEAD_TRS + 1, 1)
        seen = ahead_BWAK.flatten(2)
        both = torch.cat([seen, F.gelu(self.hidden(seen))], dim=-1)
        if noise is not None:
            both = noise.dropout(both, self.dropout)
        return {m: linear(both) for m, linear in self.maps.items()}


def zero_linear(n_in: int, n_out: int) -> nn.Linear:
    """A linear map that gives zeros until it has learnt."""
    linear = nn.Linear(n_in, n_out)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
