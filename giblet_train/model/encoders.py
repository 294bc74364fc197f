"""Modality encoders: video, audio and text features, each mapped to the trunk's width and summed.

B windows, W window TRs, F features, D width, M modalities.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from giblet_train.model.dropout import StatelessDropout

LARGEST_SD = 5.0


class Encoders(nn.Module):
    """A linear map per modality, summed; in training whole modalities are dropped at random.

    Features arrive z-scored and are only clipped. A LayerNorm here would remove each TR's mean and size, which encode
    loudness and brightness: what brains follow best. Modality dropout (TRIBE, arXiv 2507.22229) prevents the network
    from relying on one modality, and makes it work when only one is given.
    """

    def __init__(self, n_features: Mapping[str, int], width: int, modality_dropout: float) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.maps = nn.ModuleDict({m: nn.Linear(n, width) for m, n in n_features.items()})

    def forward(self, features: Mapping[str, Tensor], noise: StatelessDropout | None) -> Tensor:
        """Map modality -> (B, W, F) to (B, W, D). A modality that is absent from `features` contributes nothing."""
        parts = {m: self.maps[m](x_BWF.clamp(-LARGEST_SD, LARGEST_SD)) for m, x_BWF in features.items()}
        if noise is not None and self.modality_dropout:
            any_part = next(iter(parts.values()))
            kept_BM = noise.keep_mask(len(any_part), len(parts), self.modality_dropout)
            parts = {m: part * kept_BM[:, i, None, None] for i, (m, part) in enumerate(parts.items())}
        return torch.stack(list(parts.values())).sum(dim=0)
