"""The loss of a batch, term by term: the brain as predicted, and the film as rebuilt from brains.

B windows of a rank, which are those of all ranks where its heads alone are concerned (see `shards`), W window TRs,
F features, K latents, R compressed responses of the subjects held here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.head_sharding import RankBatch
from giblet_train.components.losses import absolute_error, correlation_distance, cross_entropy, scale_of, squared_error
from giblet_train.components.targets import Targets
from giblet_train.model.dropout import StatelessDropout
from giblet_train.model.network import Network
from giblet_train.schema.config import Config

SOURCES = ("predicted", "measured")


@dataclass(frozen=True)
class Forward:
    """One pass over a batch. rebuilt: source of the brain -> modality -> (B, W, F) as decoded, logits of codes."""

    z_BWK: Tensor
    scores_BWR: Tensor
    rebuilt: Mapping[str, Mapping[str, Tensor]]

    def with_mean_prediction(self) -> Forward:
        """The same pass, had it predicted the best constant of everything: its training mean."""
        rebuilt = {s: {m: torch.zeros_like(x) for m, x in film.items()} for s, film in self.rebuilt.items()}
        return Forward(self.z_BWK, torch.zeros_like(self.scores_BWR), rebuilt)


class LossTerms:
    """Terms of the loss, each a sum over this batch divided by what makes the whole step's best constant score 1."""

    def __init__(self, targets: Targets, config: Config) -> None:
        self.targets = targets
        self.kind = config.fmri_loss_type
        self.scales = {
            c: scale_of(v, config.losses.scale, c in targets.log_unigram) for c, v in targets.constant_loss.items()
        }
        if self.kind == "mae" and config.losses.scale == "variance":
            self.scales["fmri"] = targets.deviation  # what the best constant's absolute error is

    def forward(self, model: Network, portion: RankBatch, noise: StatelessDropout | None) -> Forward:
        """Predict brains from the film, and rebuild the film from predicted and from measured brains.

        Measured brains are shown only where they are scored: a response outside the block may belong to another part of
        the split.
        """
        inputs, seen_BW = self.targets.masked_inputs(portion.local_subjects)
        z_BWK = model(inputs, seen_BW, noise)
        scores_BWR = model.predict(portion.for_heads(z_BWK))
        index_BW, scored_BW = self._to_device(portion.all_)
        measured_BWR = self.targets.scores_TR[index_BW] * scored_BW[..., None]
        brains = dict(zip(SOURCES, (scores_BWR, measured_BWR), strict=True))
        return Forward(z_BWK, scores_BWR, model.reconstruct(z_BWK, brains, noise, portion.for_decoders))

    def terms(self, forward: Forward, portion: RankBatch, n_scored: int, n_windows: int) -> dict[str, Tensor]:
        """component -> its term. n_scored, n_windows: of the whole step, over all ranks and pieces.

        A reconstruction's term is the mean over its sources: of squared errors, or of the cross-entropy of codes. The
        brain's is of the subjects held here, over all ranks' windows; its share of the loss of all subjects.
        """
        index_BW, scored_BW = self._to_device(portion.local_subjects)
        terms = {"fmri": self._encoding_loss(forward.scores_BWR, *self._to_device(portion.all_), n_scored, n_windows)}
        for modality, target_TF in self.targets.features.items():
            films = [film[modality] for film in forward.rebuilt.values()]
            sums, n_each = self._reconstruction_loss(modality, films, target_TF[index_BW], scored_BW)
            terms[modality] = torch.stack(sums).sum() / (n_scored * n_each * self.scales[modality] * len(sums))
        return terms

    def _reconstruction_loss(
        self, modality: str, films: Sequence[Tensor], target_BWF: Tensor, scored_BW: Tensor
    ) -> tuple[list[Tensor], int]:
        """Each rebuilt film's error, summed over scored TRs and what one TR has; and how many that are."""
        log_unigram_MQ = self.targets.log_unigram.get(modality)
        if log_unigram_MQ is not None:
            return [cross_entropy(f, target_BWF, scored_BW, log_unigram_MQ) for f in films], len(log_unigram_MQ)
        weight_F = self.targets.weights[modality]
        return [squared_error(f, target_BWF, scored_BW, weight_F) for f in films], target_BWF.shape[-1]

    def _encoding_loss(
        self, scores_BWR: Tensor, index_BW: Tensor, scored_BW: Tensor, n_scored: int, n_windows: int
    ) -> Tensor:
        target_BWR = self.targets.scores_TR[index_BW]
        if self.kind == "correlation":
            return correlation_distance(scores_BWR, target_BWR, scored_BW) / (n_windows * self.targets.n_responses)
        n = n_scored * self.targets.n_responses
        if self.kind == "mae":
            return absolute_error(scores_BWR, target_BWR, scored_BW) / (n * self.scales["fmri"])
        rest = (self.targets.residual_energy_T[index_BW] * scored_BW).sum()
        return (squared_error(scores_BWR, target_BWR, scored_BW) + rest) / (n * self.scales["fmri"])

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A batch's indices of TRs, and which of them are scored, where the targets are."""
        device = self.targets.scores_TR.device
        return torch.from_numpy(batch.index_BW).to(device), torch.from_numpy(batch.scored_BW).to(device)
