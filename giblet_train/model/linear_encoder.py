"""A fixed causal filter from features, and from nonlinear features of them, to latents: the ridge initialisation.

B windows, W window TRs, F features, K latents, L lags (0 first), R compressed responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from giblet_train.model.feature_expansion import FeatureExpansion


@dataclass(frozen=True)
class LinearInit:
    """The ridge initialisation in the network's terms."""

    path: Mapping[str, Tensor]
    """Feature space -> (K, F, L), lag 0 first."""
    heads_KR: Tensor
    """In units of the scores."""
    expansion: FeatureExpansion | None = None
    """Computes the feature spaces of `path` that are not modalities."""


class LinearEncoder(nn.Module):
    """Latents as a causal filter of all feature spaces; it is not trained."""

    def __init__(self, path: Mapping[str, Tensor], expansion: FeatureExpansion | None = None) -> None:
        super().__init__()
        self.spaces = tuple(path)
        self.expansion = expansion
        for space, weight_KFL in path.items():
            self.register_buffer(space, weight_KFL.flip(-1).contiguous())

    def forward(self, features: Mapping[str, Tensor], seen_BW: Tensor) -> Tensor:
        """Map modality -> (B, W, F) to latents (B, W, K); zeros are used before the window."""
        spaces = dict(features)
        if self.expansion is not None:
            spaces |= self.expansion(features, seen_BW)
        parts = []
        for space in self.spaces:
            weight_KFL = self.get_buffer(space)
            past = F.pad(spaces[space].transpose(1, 2), (weight_KFL.shape[-1] - 1, 0))
            parts.append(F.conv1d(past, weight_KFL).transpose(1, 2))
        return torch.stack(parts).sum(dim=0)
