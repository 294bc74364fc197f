"""The whole network: film features to latents, latents to brains, brains back to latents, latents to film features.

B windows, W window TRs, F features, K latents, R compressed numbers, L kernel TRs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from giblet_train.model.decoders import Decoders
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.encoders import Encoders
from giblet_train.model.fir import CausalFir
from giblet_train.model.heads import Gather, Heads, no_gather, ridge_readout
from giblet_train.model.linear_encoder import LinearEncoder, LinearInit
from giblet_train.model.presets import ModelSize
from giblet_train.model.trunk import Trunk

START_RIDGE = 0.005
HEAD_START_SD = 0.01


@dataclass(frozen=True)
class Sizes:
    """Sizes that the data decide. n_columns: part of the compression -> numbers. n_responses: S·V.

    held: the parts whose heads are here.
    """

    n_inputs: Mapping[str, int]
    n_targets: Mapping[str, int]
    n_columns: Mapping[str, int]
    n_responses: int
    held: tuple[str, ...]


class Network(nn.Module):
    """What the engine trains: film features to a bottleneck, the bottleneck to brains, and the film rebuilt."""

    mixed_precision = False

    def predict(self, z_BWK: Tensor) -> Tensor:
        """The bottleneck (B, W, K) to the responses of all subjects held here, compressed or not, (B, W, R)."""
        raise NotImplementedError

    def reconstruct(
        self, z_BWK: Tensor, brains: Mapping[str, Tensor], noise: StatelessDropout | None, gather: Gather = no_gather
    ) -> dict[str, dict[str, Tensor]]:
        """Source of the brain -> modality -> the film (B, W, F), of the sources that this network can read.

        brains: source -> responses held here, of these windows and of all others that `gather` sees.
        """
        raise NotImplementedError

    def kernel_penalty(self) -> Tensor:
        """How far the network is from what it is pulled back to; 0 where there is nothing."""
        return torch.zeros(())

    def start_scores(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """The scores (B, W, R) of a linear model that the network adds to, where there is one."""
        return None


class BrainModel(Network):
    """Its bottleneck is the predicted brain: decoders see only what a ridge inverse of the heads reads from one."""

    def __init__(
        self,
        shape: ModelSize,
        sizes: Sizes,
        kernel_L: Tensor,
        gain_R: Tensor,
        *,
        dropout: float,
        modality_dropout: float,
        start: LinearInit | None = None,
        learnt_share: float = 1.0,
        zero_heads: bool = True,
        mixed_precision: bool = False,
    ) -> None:
        """kernel_L: the response kernel to start from. gain_R: the size of each score.

        start: a linear model that the network equals at first and adds to.
        learnt_share: how much of what it adds counts outside training: weights between start and end hold up better on
        what was not seen than either (Wortsman et al. 2022, arXiv 2109.01903).
        zero_heads: False for losses whose gradient vanishes there.
        mixed_precision: bfloat16 in encoders and trunk; heads, readout and losses always stay float32.
        """
        super().__init__()
        self.mixed_precision = mixed_precision
        n_latents = shape.bottleneck_dim
        self.encoders = Encoders(sizes.n_inputs, shape.width, modality_dropout)
        self.trunk = Trunk(shape.width, shape.n_layers, shape.n_attention_heads, n_latents, dropout)
        self.fir = CausalFir(n_latents, kernel_L)
        self.learnt_share = learnt_share if start else 1.0
        self.heads = Heads(
            n_latents,
            sizes.n_columns,
            gain_R,
            0.0 if zero_heads else HEAD_START_SD,
            start.heads_KR if start else None,
            self.learnt_share,
            sizes.held,
        )
        self.linear_path = LinearEncoder(start.path) if start else None
        if start:
            nn.init.zeros_(self.trunk.direct.weight)
            nn.init.zeros_(self.trunk.direct.bias)
        self.decoders = Decoders(n_latents, shape.decoder_width, sizes.n_targets, dropout)
        # What one latent explains grows with the number of responses, and so must what is weighed against it.
        self.log_ridge = nn.Parameter(torch.tensor(START_RIDGE * sizes.n_responses).log())

    def forward(self, features: Mapping[str, Tensor], seen_BW: Tensor, noise: StatelessDropout | None = None) -> Tensor:
        """The bottleneck z (B, W, K), delayed as the brain is. features: modality -> (B, W, F)."""
        with torch.autocast(seen_BW.device.type, torch.bfloat16, enabled=self.mixed_precision):
            now_BWK = self.trunk(self.encoders(features, noise), seen_BW, noise)
        z_BWK: Tensor = self.fir(now_BWK.float())
        if self.linear_path is None:
            return z_BWK
        share = 1.0 if self.training else self.learnt_share
        started_BWK: Tensor = self.linear_path(features)
        return started_BWK + share * z_BWK

    def predict(self, z_BWK: Tensor) -> Tensor:
        """(B, W, K) to scores (B, W, R)."""
        scores_BWR: Tensor = self.heads(z_BWK)
        return scores_BWR

    def reconstruct(
        self, z_BWK: Tensor, brains: Mapping[str, Tensor], noise: StatelessDropout | None, gather: Gather = no_gather
    ) -> dict[str, dict[str, Tensor]]:
        """The film from what is read out of each source's brains."""
        read = self.readout(list(brains.values()), gather)
        return {source: self.decoders(x_BWK, noise) for source, x_BWK in zip(brains, read, strict=True)}

    def kernel_penalty(self) -> Tensor:
        """Of the response kernels from their start."""
        return self.fir.drift()

    def start_scores(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """The scores (B, W, R) that the linear model predicts by itself, where there is one."""
        return None if self.linear_path is None else self.linear_path(features) @ self.heads.start_KR

    def readout(self, scores: Sequence[Tensor], gather: Gather = no_gather) -> list[Tensor]:
        """Latents (B, W, K) that responses (B, W, R) show, of each source; see `heads.readout`."""
        return ridge_readout(scores, self.heads.weight_KR, self.log_ridge.exp(), gather)
