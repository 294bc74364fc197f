"""Fit the decoders' linear maps in closed form: ridge from the latents that brains show to the features of the film.

Training then starts from the best linear decoder of the bottleneck and adds what is not linear in it. The step before
training is a candidate, so that training never ends below it on validation TRs.

S sources of brains, N scored TRs, I inputs of a decoder (see `decoders`), F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.loss_terms import SOURCES, LossTerms
from giblet_train.model.network import BrainModel

PENALTIES = tuple(float(a) for a in np.logspace(-7, 0, 15))
"""Candidate ridge penalties relative to the summed power of the inputs."""
MOST_TRS = 16_384
"""Training TRs that are used; more are thinned out evenly."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LinearDecoder:
    """A linear map from the inputs of a decoder to features."""

    weight_FI: Array
    bias_F: Array

    def __call__(self, input_NI: Array) -> Array:
        """Return the decoded features (N, F)."""
        return input_NI @ self.weight_FI.T + self.bias_F


@torch.no_grad()
def fit_decoders(
    model: BrainModel, objective: LossTerms, shards: HeadSharding, train: Sequence[Batch], validation: Sequence[Batch]
) -> dict[str, LinearDecoder]:
    """Return modality -> ridge from the latents of predicted and measured brains to the features of the film.

    The penalty is the one with the smallest error on the validation TRs. Left out are codes, because their loss is not
    a squared error, and modalities that training or validation TRs lack. Collective over the ranks that evaluate.

    Args:
        train: windows of the training TRs.
        validation: windows of the validation TRs.
    """
    model.eval()
    targets = objective.targets
    n_scored = sum(batch.n_scored for batch in train)
    training = _examples(model, objective, shards, train, every=math.ceil(n_scored / MOST_TRS))
    held_out = _examples(model, objective, shards, validation)
    paths: dict[bytes, _RidgePath] = {}
    decoders = {}
    for modality in (m for m in targets.features if m not in targets.log_unigram):
        weight_F = targets.weights[modality].double().cpu().numpy()
        input_NI, true_NF = held_out.inputs(modality), held_out.features(modality)
        target_NF, trs = training.features(modality), training.trs_of(modality)
        if not len(input_NI) or not len(target_NF):
            continue
        if trs not in paths:
            paths[trs] = _RidgePath.of(training.inputs(modality))
        best_error = np.inf
        for decoder in paths[trs].decoders(target_NF):
            error = float(((decoder(input_NI) - true_NF) ** 2 @ weight_F).sum())
            if error < best_error:
                best_error, decoders[modality] = error, decoder
    return decoders


@torch.no_grad()
def decoder_inputs(
    model: BrainModel, objective: LossTerms, shards: HeadSharding, batches: Sequence[Batch], every: int = 1
) -> Tensor:
    """Return what the decoders receive at the scored TRs of some windows (S, N, I), sources in the order of SOURCES.

    Collective over the ranks that evaluate.

    Args:
        every: stride over the TRs of each window.
    """
    parts = []
    for batch in batches:
        portion = shards.whole(batch)
        by_source = model.decoder_inputs(objective.brains(model, portion, None).by_source, portion.for_decoders)
        scored_BW = torch.from_numpy(batch.scored_BW).to(objective.targets.scores_TR.device)
        parts.append(torch.stack([by_source[source][scored_BW][::every] for source in SOURCES]))
    return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class _Examples:
    """Inputs of the decoders and the features to decode, at the scored TRs of some windows."""

    input_SNI: Tensor
    feature_NF: Mapping[str, Tensor]
    """Modality -> (N, F)."""
    shown_N: Mapping[str, Tensor]
    """Modality -> (N,) True where the stimulus has it; no entry if it has it at all TRs."""

    def trs_of(self, modality: str) -> bytes:
        """Return a key of the TRs that have the modality, equal for modalities that the same TRs have."""
        shown_N = self.shown_N.get(modality)
        return b"" if shown_N is None else shown_N.cpu().numpy().tobytes()

    def inputs(self, modality: str) -> Array:
        """Return the inputs (S·N, I) at the TRs that have the modality, one source after another."""
        shown_N = self.shown_N.get(modality)
        input_SNI = self.input_SNI if shown_N is None else self.input_SNI[:, shown_N]
        return input_SNI.flatten(0, 1).double().cpu().numpy()

    def features(self, modality: str) -> Array:
        """Return the features (S·N, F) to decode from `inputs`."""
        shown_N, feature_NF = self.shown_N.get(modality), self.feature_NF[modality]
        own_NF = feature_NF if shown_N is None else feature_NF[shown_N]
        return own_NF.repeat(len(self.input_SNI), 1).double().cpu().numpy()


def _examples(
    model: BrainModel, objective: LossTerms, shards: HeadSharding, batches: Sequence[Batch], every: int = 1
) -> _Examples:
    targets = objective.targets
    rows = [torch.from_numpy(batch.index_BW[batch.scored_BW][::every]) for batch in batches]
    rows_N = torch.cat(rows).to(targets.scores_TR.device)
    return _Examples(
        decoder_inputs(model, objective, shards, batches, every),
        {m: x_TF[rows_N] for m, x_TF in targets.features.items()},
        {m: shown_T[rows_N] > 0 for m, shown_T in targets.shown.items()},
    )


@dataclass(frozen=True)
class _RidgePath:
    """Ridge at each penalty on the same inputs, decomposed once in the smaller of the spaces of inputs and of TRs."""

    mean_I: Array
    centred_NI: Array
    power: Array
    vectors: Array

    @classmethod
    def of(cls, input_NI: Array) -> _RidgePath:
        """Decompose the inputs."""
        mean_I = input_NI.mean(axis=0)
        centred_NI = input_NI - mean_I
        is_dual = len(input_NI) < input_NI.shape[1]
        power, vectors = np.linalg.eigh(centred_NI @ centred_NI.T if is_dual else centred_NI.T @ centred_NI)
        return cls(mean_I, centred_NI, np.maximum(power, 0.0), vectors)

    def decoders(self, feature_NF: Array) -> Iterator[LinearDecoder]:
        """Yield the linear decoder of each penalty."""
        mean_F = feature_NF.mean(axis=0)
        centred_NF = feature_NF - mean_F
        is_dual = len(self.power) < self.centred_NI.shape[1]
        projection = self.vectors.T @ (centred_NF if is_dual else self.centred_NI.T @ centred_NF)
        for penalty in PENALTIES:
            shrunk = projection / (self.power + penalty * self.power.sum() + np.finfo(float).tiny)[:, None]
            solution = self.vectors @ shrunk
            weight_FI = (self.centred_NI.T @ solution if is_dual else solution).T
            yield LinearDecoder(weight_FI, mean_F - weight_FI @ self.mean_I)
