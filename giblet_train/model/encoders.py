"""Modality encoders: what is seen, heard and told, each brought to the trunk's width and added.

B windows, W window TRs, F features, D width, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from giblet_train.model.noise import Noise


class Encoders(nn.Module):
    """LayerNorm and a linear map per modality, summed; in training whole modalities are left out at random.

    Modality dropout (TRIBE, arXiv 2507.22229) keeps one modality from hiding behind another, and makes the network
    answer when only one is given.
    """

    def __init__(self, n_features: Mapping[str, int], width: int, modality_dropout: float) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.norms = nn.ModuleDict({m: nn.LayerNorm(n) for m, n in n_features.items()})
        self.maps = nn.ModuleDict({m: nn.Linear(n, width) for m, n in n_features.items()})

    def forward(self, features: Mapping[str, Tensor], noise: Noise | None) -> Tensor:
        """modality -> (B, W, F) to (B, W, D). A modality that is absent from `features` contributes nothing."""
        parts = {m: self.maps[m](self.norms[m](x_BWF)) for m, x_BWF in features.items()}
        if noise is not None and self.modality_dropout:
            any_part = next(iter(parts.values()))
            kept_BM = noise.kept(len(parts), self.modality_dropout, any_part.device)
            parts = {m: part * kept_BM[:, i, None, None] for i, (m, part) in enumerate(parts.items())}
        return torch.stack(list(parts.values())).sum(dim=0)
