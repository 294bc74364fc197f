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
from giblet_train.components.loss_terms import LossTerms
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
    modalities = [m for m in targets.features if m not in targets.log_unigram]
    training = _examples(model, objective, shards, train)
    held_out = _examples(model, objective, shards, validation)
    decoders = {}
    for modality in modalities:
        weight_F = targets.weights[modality].double().cpu().numpy()
        input_NI, true_NF = held_out.of(modality)
        if not len(input_NI):
            continue
        best_error = np.inf
        for decoder in _ridge_path(*training.of(modality)):
            error = float(((decoder(input_NI) - true_NF) ** 2 @ weight_F).sum())
            if error < best_error:
                best_error, decoders[modality] = error, decoder
    return decoders


@dataclass(frozen=True)
class _Examples:
    """Inputs of the decoders and the features to decode, at the scored TRs of some windows."""

    input_SNI: Tensor
    feature_NF: Mapping[str, Tensor]
    """Modality -> (N, F)."""
    shown_N: Mapping[str, Tensor]
    """Modality -> (N,) True where the stimulus has it; no entry if it has it at all TRs."""

    def of(self, modality: str) -> tuple[Array, Array]:
        """Return inputs (S·N, I) and features (S·N, F) of the TRs that have the modality, one source after another."""
        shown_N = self.shown_N.get(modality)
        input_SNI, feature_NF = self.input_SNI, self.feature_NF[modality]
        if shown_N is not None:
            input_SNI, feature_NF = input_SNI[:, shown_N], feature_NF[shown_N]
        stacked_NF = feature_NF.repeat(len(input_SNI), 1)
        return input_SNI.flatten(0, 1).double().cpu().numpy(), stacked_NF.double().cpu().numpy()


def _examples(model: BrainModel, objective: LossTerms, shards: HeadSharding, batches: Sequence[Batch]) -> _Examples:
    targets, inputs, rows = objective.targets, [], []
    n_scored = sum(batch.n_scored for batch in batches)
    every = math.ceil(n_scored / MOST_TRS)
    for batch in batches:
        portion, device = shards.whole(batch), targets.scores_TR.device
        scored_BW = torch.from_numpy(batch.scored_BW).to(device)
        by_source = model.decoder_inputs(objective.brains(model, portion, None).by_source, portion.for_decoders)
        inputs.append(torch.stack([x_BWI[scored_BW][::every] for x_BWI in by_source.values()]))
        rows.append(torch.from_numpy(batch.index_BW).to(device)[scored_BW][::every])
    rows_N = torch.cat(rows)
    return _Examples(
        torch.cat(inputs, dim=1),
        {m: x_TF[rows_N] for m, x_TF in targets.features.items()},
        {m: shown_T[rows_N] > 0 for m, shown_T in targets.shown.items()},
    )


def _ridge_path(input_NI: Array, feature_NF: Array) -> Iterator[LinearDecoder]:
    """Yield ridge at each penalty, solved in the smaller of the spaces of inputs and of TRs; nothing without TRs."""
    if not len(input_NI):
        return
    mean_I, mean_F = input_NI.mean(axis=0), feature_NF.mean(axis=0)
    centred_NI = input_NI - mean_I
    dual = len(input_NI) < input_NI.shape[1]
    gram = centred_NI @ centred_NI.T if dual else centred_NI.T @ centred_NI
    power, vectors = np.linalg.eigh(gram)
    power = np.maximum(power, 0.0)
    projection = vectors.T @ (feature_NF - mean_F if dual else centred_NI.T @ feature_NF)
    for penalty in PENALTIES:
        solution = vectors @ (projection / (power + penalty * power.sum() + np.finfo(float).tiny)[:, None])
        weight_FI = (centred_NI.T @ solution if dual else solution).T
        yield LinearDecoder(weight_FI, mean_F - weight_FI @ mean_I)
