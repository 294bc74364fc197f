"""A fixed linear path from delayed features to latents, and the heads that belong to it: where training starts from.

B windows, W window TRs, F features, K latents, L lags (0 first), R compressed responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class LinearInit:
    """A linear model in the network's terms. path: modality -> (K, F, L), lag 0 first. heads_KR: in scores' units."""

    path: Mapping[str, Tensor]
    heads_KR: Tensor


class LinearEncoder(nn.Module):
    """Latents as a causal filter of all features, the same at every step: what is learnt is added to them."""

    def __init__(self, path: Mapping[str, Tensor]) -> None:
        super().__init__()
        for modality, weight_KFL in path.items():
            self.register_buffer(modality, weight_KFL.flip(-1).contiguous())

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """modality -> (B, W, F) to (B, W, K); before the window there is nothing."""
        parts = []
        for modality, x_BWF in features.items():
            weight_KFL = self.get_buffer(modality)
            past = F.pad(x_BWF.transpose(1, 2), (weight_KFL.shape[-1] - 1, 0))
            parts.append(F.conv1d(past, weight_KFL).transpose(1, 2))
        return torch.stack(parts).sum(dim=0)
