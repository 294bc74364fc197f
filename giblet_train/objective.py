"""The loss of a batch, term by term: the brain as predicted, and the film as rebuilt from brains.

B windows, W window TRs, F features, K latents, R compressed responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from giblet_train.batch import Batch
from giblet_train.contract.config import Config
from giblet_train.loss import absolute_error, correlation_distance, scale_of, squared_error
from giblet_train.model.network import Network
from giblet_train.model.noise import Noise
from giblet_train.targets import Targets

SOURCES = ("predicted", "measured")


@dataclass(frozen=True)
class Forward:
    """One pass over a batch. rebuilt: source of the brain -> modality -> (B, W, F)."""

    z_BWK: Tensor
    scores_BWR: Tensor
    rebuilt: Mapping[str, Mapping[str, Tensor]]

    def silenced(self) -> Forward:
        """The same pass, had it predicted the training mean of everything."""
        rebuilt = {s: {m: torch.zeros_like(x) for m, x in film.items()} for s, film in self.rebuilt.items()}
        return Forward(self.z_BWK, torch.zeros_like(self.scores_BWR), rebuilt)


class Objective:
    """Terms of the loss, each a sum over this batch divided by what makes the whole step's best constant score 1."""

    def __init__(self, targets: Targets, config: Config) -> None:
        self.targets = targets
        self.kind = config.fmri_loss_type
        self.scales = {c: scale_of(v, config.losses.scale) for c, v in targets.variance.items()}

    def forward(self, model: Network, batch: Batch, noise: Noise | None) -> Forward:
        """Predict brains from the film, and rebuild the film from predicted and from measured brains.

        Measured brains are shown only where they are scored: a response outside the block may belong to another part of
        the split.
        """
        inputs, seen_BW = self.targets.seen(batch)
        z_BWK = model(inputs, seen_BW, noise)
        scores_BWR = model.predict(z_BWK)
        device = z_BWK.device
        scored_BW1 = torch.from_numpy(batch.scored_BW).to(device)[..., None]
        measured_BWR = self.targets.scores_TR[torch.from_numpy(batch.index_BW).to(device)] * scored_BW1
        return Forward(z_BWK, scores_BWR, model.rebuilt(z_BWK, scores_BWR, measured_BWR, noise))

    def terms(self, forward: Forward, batch: Batch, n_scored: int, n_windows: int) -> dict[str, Tensor]:
        """component -> its term. n_scored, n_windows: of the whole step, over all ranks and pieces.

        A reconstruction's term is the mean over its sources.
        """
        device = forward.z_BWK.device
        index_BW = torch.from_numpy(batch.index_BW).to(device)
        scored_BW = torch.from_numpy(batch.scored_BW).to(device)
        terms = {"fmri": self._fmri(forward.scores_BWR, index_BW, scored_BW, n_scored, n_windows)}
        for modality, target_TF in self.targets.features.items():
            target_BWF = target_TF[index_BW]
            weight_F = self.targets.weights[modality]
            sums = [
                squared_error(forward.rebuilt[s][modality], target_BWF, scored_BW, weight_F) for s in forward.rebuilt
            ]
            n = n_scored * target_BWF.shape[-1] * self.scales[modality] * len(sums)
            terms[modality] = torch.stack(sums).sum() / n
        return terms

    def _fmri(self, scores_BWR: Tensor, index_BW: Tensor, scored_BW: Tensor, n_scored: int, n_windows: int) -> Tensor:
        target_BWR = self.targets.scores_TR[index_BW]
        if self.kind == "correlation":
            return correlation_distance(scores_BWR, target_BWR, scored_BW) / n_windows
        n = n_scored * self.targets.n_responses
        if self.kind == "mae":
            return absolute_error(scores_BWR, target_BWR, scored_BW) / (n * self.targets.deviation)
        rest = (self.targets.rest_T[index_BW] * scored_BW).sum()
        return (squared_error(scores_BWR, target_BWR, scored_BW) + rest) / (n * self.scales["fmri"])
