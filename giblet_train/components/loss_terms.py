"""Compute the loss of a batch, term by term: predicted responses, and the film reconstructed from brains.

B windows of a rank, or of all ranks for its heads (see `head_sharding`), W window TRs, F features, K latents,
R compressed responses of the local subjects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.head_sharding import RankBatch
from giblet_train.components.losses import ENCODING_LOSSES, cross_entropy, scale_of, squared_error
from giblet_train.components.targets import Targets
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.network import Network
from giblet_train.schema.config import Config

PREDICTED, MEASURED = SOURCES = ("predicted", "measured")
SMALLEST_SHARE = 1e-6


@dataclass(frozen=True)
class Brains:
    """Responses to a batch, from which the film can be reconstructed."""

    z_BWK: Tensor
    """Latents."""
    by_source: Mapping[str, Tensor]
    """Source of the brain -> scores (B, W, R)."""


@dataclass(frozen=True)
class Forward:
    """Result of one pass over a batch."""

    z_BWK: Tensor
    """Latents."""
    scores_BWR: Tensor
    """Predicted scores."""
    rebuilt: Mapping[str, Mapping[str, Tensor]]
    """Source of the brain -> modality -> decoded features (B, W, F), logits of codes."""

    def with_mean_prediction(self) -> Forward:
        """Return the pass of a model that predicts the training mean of everything."""
        rebuilt = {s: {m: torch.zeros_like(x) for m, x in film.items()} for s, film in self.rebuilt.items()}
        return Forward(self.z_BWK, torch.zeros_like(self.scores_BWR), rebuilt)


class LossTerms:
    """Terms of the loss: sums over this batch, scaled so that the best constant scores 1 over the whole step."""

    def __init__(self, targets: Targets, config: Config) -> None:
        self.targets = targets
        self.encoding_loss = ENCODING_LOSSES[config.fmri_loss_type]
        self.scales = {
            c: scale_of(v, config.losses.scale, c in targets.log_unigram) for c, v in targets.constant_loss.items()
        }
        if not self.encoding_loss.is_squared_error and config.losses.scale == "variance":
            self.scales["fmri"] = targets.deviation  # the best constant's absolute error

    def forward(self, model: Network, portion: RankBatch, noise: StatelessDropout | None) -> Forward:
        """Predict responses from the film, and reconstruct the film from predicted and from measured responses."""
        brains = self.brains(model, portion, noise)
        film = model.reconstruct(brains.z_BWK, brains.by_source, noise, portion.for_decoders)
        return Forward(brains.z_BWK, brains.by_source[PREDICTED], film)

    def brains(self, model: Network, portion: RankBatch, noise: StatelessDropout | None) -> Brains:
        """Return the responses from which the film is reconstructed, as their compressed scores.

        Measured responses are used only at scored TRs, because others may belong to another part of the split.
        """
        inputs, seen_BW = self.targets.masked_inputs(portion.own)
        z_BWK = model(inputs, seen_BW, noise)
        scores_BWR = model.predict(portion.for_heads(z_BWK))
        index_BW, scored_BW = self._to_device(portion.all_)
        measured_BWR = self.targets.scores_TR[index_BW] * scored_BW[..., None]
        if self.targets.share_T is not None:
            # The readout sums over subjects: those who lack a row must not make its latents smaller.
            measured_BWR = measured_BWR / self.targets.share_T[index_BW].clamp_min(SMALLEST_SHARE)[..., None]
        return Brains(z_BWK, {PREDICTED: scores_BWR, MEASURED: measured_BWR})

    def terms(
        self, forward: Forward, portion: RankBatch, n_scored: Mapping[str, float], n_windows: int
    ) -> dict[str, Tensor]:
        """Return component -> term. n_scored, n_windows: of the whole step, over all ranks and passes.

        n_scored: component -> scored TRs as `Targets.n_scored` weights them.

        The term of a reconstruction is the mean over its sources of squared errors, or of the cross-entropy of codes.
        The term of the responses covers the local subjects over all ranks' windows: their share of the whole loss.
        """
        index_BW, scored_BW = self._to_device(portion.own)
        all_windows = self._to_device(portion.all_)
        terms = {"fmri": self._encoding_loss(forward.scores_BWR, *all_windows, n_scored["fmri"], n_windows)}
        for modality, target_TF in self.targets.features.items():
            films = [film[modality] for film in forward.rebuilt.values()]
            shown_T = self.targets.shown.get(modality)
            shown_BW = scored_BW if shown_T is None else scored_BW * shown_T[index_BW]
            sums, n_each = self._reconstruction_loss(modality, films, target_TF[index_BW], shown_BW)
            scale = n_scored[modality] * n_each * self.scales[modality] * len(sums)
            terms[modality] = torch.stack(sums).sum() / (scale or 1.0)
        return terms

    def _reconstruction_loss(
        self, modality: str, films: Sequence[Tensor], target_BWF: Tensor, scored_BW: Tensor
    ) -> tuple[list[Tensor], int]:
        """Return each reconstruction's error summed over scored TRs, and the number of entries per TR."""
        log_unigram_MQ = self.targets.log_unigram.get(modality)
        if log_unigram_MQ is not None:
            return [cross_entropy(f, target_BWF, scored_BW, log_unigram_MQ) for f in films], len(log_unigram_MQ)
        weight_F = self.targets.weights[modality]
        return [squared_error(f, target_BWF, scored_BW, weight_F) for f in films], target_BWF.shape[-1]

    def _encoding_loss(
        self, scores_BWR: Tensor, index_BW: Tensor, scored_BW: Tensor, n_scored: float, n_windows: int
    ) -> Tensor:
        loss, targets = self.encoding_loss, self.targets
        present_BWR = targets.column_presence(index_BW)
        if present_BWR is not None:
            scores_BWR = scores_BWR * present_BWR
        error = loss.error(scores_BWR, targets.scores_TR[index_BW], scored_BW)
        if loss.per_window:
            return error / (n_windows * targets.n_responses)
        if loss.is_squared_error:
            error = error + (targets.residual_energy_T[index_BW] * scored_BW).sum()
        return error / ((n_scored * targets.n_responses * self.scales["fmri"]) or 1.0)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return a batch's TR indices and its mask of scored TRs on the targets' device."""
        device = self.targets.scores_TR.device
        return torch.from_numpy(batch.index_BW).to(device), torch.from_numpy(batch.scored_BW).to(device)
