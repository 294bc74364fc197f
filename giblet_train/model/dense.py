"""The lab's first network, fully connected, for comparison within the same engine.

Frames, mel and sentences pass through one Linear each and are fused to a bottleneck. One wide layer maps it to voxels,
and the film is reconstructed from the bottleneck itself. TRs are independent, and all subjects share one prediction.
LayerNorm replaces the lab's BatchNorm; the last layers are initialised to zero, so losses start at 1.
B windows, W window TRs, F features, D features of a modality, K bottleneck, R responses of all subjects, V of one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from giblet_train.model.decoders import zero_linear
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.heads import Gather, no_gather
from giblet_train.model.network import Network, Sizes
from giblet_train.model.presets import ModelSize


class DenseModel(Network):
    """Predicts V voxels once and repeats the prediction for every subject."""

    def __init__(self, shape: ModelSize, sizes: Sizes, head_width: int, dropout: float) -> None:
        """head_width: width of the layer before the voxels."""
        super().__init__()
        self.dropout = dropout
        self.n_subjects = len(sizes.n_columns)
        width, n_latents = shape.width, shape.bottleneck_dim
        self.encoders = nn.ModuleDict({m: _layer(n, width) for m, n in sizes.n_inputs.items()})
        self.fusion = _layer(width * len(sizes.n_inputs), n_latents)
        self.head = nn.Sequential(
            _layer(n_latents, head_width), zero_linear(head_width, next(iter(sizes.n_columns.values())))
        )
        self.decoder = _layer(n_latents, width)
        self.maps = nn.ModuleDict({m: zero_linear(width, n) for m, n in sizes.n_targets.items()})

    def forward(self, features: Mapping[str, Tensor], seen_BW: Tensor, noise: StatelessDropout | None = None) -> Tensor:
        """Return the bottleneck (B, W, K). features: modality -> (B, W, F)."""
        features_of_all = self.fusion(torch.cat([encode(features[m]) for m, encode in self.encoders.items()], dim=-1))
        z_BWK: Tensor = features_of_all if noise is None else noise.dropout(features_of_all, self.dropout)
        return z_BWK * seen_BW[..., None]

    def predict(self, z_BWK: Tensor) -> Tensor:
        """Map the bottleneck (B, W, K) to responses (B, W, R)."""
        voxels_BWV: Tensor = self.head(z_BWK)
        return voxels_BWV.repeat(1, 1, self.n_subjects)

    def reconstruct(
        self, z_BWK: Tensor, brains: Mapping[str, Tensor], noise: StatelessDropout | None, gather: Gather = no_gather
    ) -> dict[str, dict[str, Tensor]]:
        """Reconstruct the film from the bottleneck; measured brains and lesions have no effect."""
        hidden_BWH = self.decoder(z_BWK)
        return {"predicted": {m: linear(hidden_BWH) for m, linear in self.maps.items()}}


def _layer(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ReLU())
