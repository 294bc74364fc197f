"""The whole network: film features to latents, latents to brains, brains back to latents, latents to film features.

B windows, W window TRs, F features, K latents, Z latents of the ridge start, R compressed numbers, L kernel TRs.
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
    """Sizes that follow from the data."""

    n_inputs: Mapping[str, int]
    """Modality -> features of the input."""
    n_targets: Mapping[str, int]
    """Modality -> features to reconstruct."""
    n_columns: Mapping[str, int]
    """Part of the compression -> numbers."""
    n_responses: int
    """Subjects times voxels."""
    local_parts: tuple[str, ...]
    """Parts whose heads are on this rank."""


class Network(nn.Module):
    """What the engine trains: film features to a bottleneck, the bottleneck to brains, and the film reconstructed."""

    mixed_precision = False
    share = 1.0
    """Share of the learnt addition to the start that counts outside training; selected on validation TRs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_path: LinearEncoder | None = None
        """Latents of a ridge start."""

    @property
    def decoder_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return modality -> parameters that only its reconstruction uses and that need no other learnt ones; or {}.

        If there are any, encoding and each modality are trained and selected independently of one another.
        """
        return {}

    def predict(self, z_BWK: Tensor) -> Tensor:
        """Map the bottleneck (B, W, K) to the responses of all local subjects, compressed or not, (B, W, R)."""
        raise NotImplementedError

    def reconstruct(
        self, z_BWK: Tensor, brains: Mapping[str, Tensor], noise: StatelessDropout | None, gather: Gather = no_gather
    ) -> dict[str, dict[str, Tensor]]:
        """Return source of the brain -> modality -> the film (B, W, F), for the sources this network can read.

        brains: source -> local responses, of these windows and of all others that `gather` uses.
        """
        raise NotImplementedError

    def kernel_penalty(self) -> Tensor:
        """Return the distance from what the network is pulled back to; 0 if there is nothing."""
        return torch.zeros(())

    def start_scores(self, features: Mapping[str, Tensor], seen_BW: Tensor) -> Tensor | None:
        """Return the scores (B, W, R) of the ridge start; None without one."""
        return None

    def limit_start(self, rank: int) -> None:
        """Let only the strongest latents of the ridge start count."""


class BrainModel(Network):
    """Its bottleneck is the predicted brain: decoders receive only latents read from responses by a ridge inverse.

    With a ridge start, the first Z latents and their heads are fixed, and those that `limit_start` leaves out are 0;
    the trunk adds further latents with heads of their own. Decoders then read the fixed latents, so that what encoding
    learns cannot harm the reconstruction, or the other way round.
    """

    start_gate_Z: Tensor
    log_ridge: Tensor
    reading_ZZ: Tensor | None
    """Maps the heads of a refitted start to those that the decoders were trained to read with; None without a refit."""

    def __init__(
        self,
        shape: ModelSize,
        sizes: Sizes,
        kernel_ML: Tensor,
        gain_R: Tensor,
        *,
        dropout: float,
        modality_dropout: float,
        start: LinearInit | None = None,
        zero_heads: bool = True,
        mixed_precision: bool = False,
    ) -> None:
        """Build the network.

        Args:
            shape: sizes of the preset and the configuration.
            sizes: sizes of the data.
            kernel_ML: initial response kernels, which the latents use in turn.
            gain_R: size of each score.
            dropout: in trunk and decoders.
            modality_dropout: probability that a modality is hidden from the trunk.
            start: a model that the network equals at first and adds to.
            zero_heads: False for losses whose gradient vanishes at zero heads.
            mixed_precision: bfloat16 in encoders and trunk; heads, readout and losses always stay float32.
        """
        super().__init__()
        self.mixed_precision = mixed_precision
        n_learnt = shape.residual_dim if start else shape.bottleneck_dim
        self.encoders = Encoders(sizes.n_inputs, shape.width, modality_dropout)
        self.trunk = Trunk(shape.width, shape.n_layers, shape.n_attention_heads, n_learnt, dropout)
        self.fir = CausalFir(n_learnt, kernel_ML)
        self.heads = Heads(
            n_learnt,
            sizes.n_columns,
            gain_R,
            0.0 if zero_heads else HEAD_START_SD,
            start.heads_KR if start else None,
            sizes.local_parts,
        )
        self.linear_path = LinearEncoder(start.path, start.expansion) if start else None
        if start:
            self.register_buffer("start_gate_Z", torch.ones(shape.bottleneck_dim))
        self.register_buffer("reading_ZZ", None)
        self.decoders = Decoders(shape.bottleneck_dim, shape.decoder_width, sizes.n_targets, dropout)
        # What one latent explains grows with the number of responses, and so must its ridge. Learning it would tie the
        # decoders of all modalities to the same step.
        self.register_buffer("log_ridge", torch.tensor(START_RIDGE * sizes.n_responses).log())

    @property
    def decoder_parameters(self) -> dict[str, list[nn.Parameter]]:
        """Return each modality's decoder, if it reads the fixed latents of a start."""
        return {} if self.linear_path is None else {m: self.decoders.parameters_of(m) for m in self.decoders.maps}

    @property
    def reading_KR(self) -> Tensor:
        """Return the heads by which latents are read from responses."""
        return self.heads.weight_KR if self.linear_path is None else self.reading_heads(self.heads.start_ZR)

    def reading_heads(self, start_ZR: Tensor) -> Tensor:
        """Return the heads (Z, R) by which latents are read from responses, given the start's heads for them."""
        return start_ZR if self.reading_ZZ is None else self.reading_ZZ @ start_ZR

    def forward(self, features: Mapping[str, Tensor], seen_BW: Tensor, noise: StatelessDropout | None = None) -> Tensor:
        """Return the bottleneck z (B, W, K), delayed as responses are. features: modality -> (B, W, F)."""
        with torch.autocast(seen_BW.device.type, torch.bfloat16, enabled=self.mixed_precision):
            now_BWK = self.trunk(self.encoders(features, noise), seen_BW, noise)
        z_BWK: Tensor = self.fir(now_BWK.float())
        if self.linear_path is None:
            return z_BWK
        start_BWZ = self.linear_path(features, seen_BW) * self.start_gate_Z
        return torch.cat([start_BWZ, (1.0 if self.training else self.share) * z_BWK], dim=-1)

    def limit_start(self, rank: int) -> None:
        """Let only the strongest latents of the ridge start count."""
        self.start_gate_Z.copy_(torch.arange(len(self.start_gate_Z)) < rank)

    def predict(self, z_BWK: Tensor) -> Tensor:
        """Map latents (B, W, K) to scores (B, W, R)."""
        scores_BWR: Tensor = self.heads(z_BWK)
        return scores_BWR

    def reconstruct(
        self, z_BWK: Tensor, brains: Mapping[str, Tensor], noise: StatelessDropout | None, gather: Gather = no_gather
    ) -> dict[str, dict[str, Tensor]]:
        """Reconstruct the film from the latents read from each source's brains."""
        readings = self.readout(list(brains.values()), gather)
        return {source: self.decoders(x_BWK, noise) for source, x_BWK in zip(brains, readings, strict=True)}

    def readout(self, scores: Sequence[Tensor], gather: Gather = no_gather) -> list[Tensor]:
        """Return the latents (B, W, K) that responses (B, W, R) of each source show; see `heads.ridge_readout`."""
        return ridge_readout(scores, self.reading_KR, self.log_ridge.exp(), gather)

    def decoder_inputs(self, brains: Mapping[str, Tensor], gather: Gather = no_gather) -> dict[str, Tensor]:
        """Return source -> what the decoders receive of its brains (B, W, I)."""
        readings = self.readout(list(brains.values()), gather)
        return {source: self.decoders.inputs(x_BWK) for source, x_BWK in zip(brains, readings, strict=True)}

    def kernel_penalty(self) -> Tensor:
        """Return the distance of the response kernels from their initial shape."""
        return self.fir.drift()

    def start_scores(self, features: Mapping[str, Tensor], seen_BW: Tensor) -> Tensor | None:
        """Return the scores (B, W, R) of the ridge start; None without one."""
        return None if self.linear_path is None else self.linear_path(features, seen_BW) @ self.heads.start_ZR
