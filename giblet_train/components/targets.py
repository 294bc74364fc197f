"""Inputs and targets of the network as tensors on its device, with the scale of every loss term.

T TRs, F features, R compressed responses, S subjects, V voxels, B windows, W window TRs, M books of Q codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.stimulus.code_frequencies import code_cross_entropy
from giblet_train.model.voxel_basis import VoxelBasis

TILE_COLUMNS = 8192


@dataclass(frozen=True)
class Targets:
    """All TRs of a split, small enough to keep: what a batch needs is gathered by index.

    inputs, features: modality -> (T, F). weights: modality -> (F,), mean 1. log_unigram: modality that is codes ->
    (M, Q), log of how often each occurs in training; its features are shares. scores_TR: compressed responses of the
    subjects held here. rest_T: their squared responses that the compression leaves out, 0 on training TRs.
    size_R: root mean square of each score over training TRs. parts: of the compression held here -> columns.
    Of all subjects, wherever they are: all_parts: of the compression -> columns. constant_loss: component -> what the
    best constant scores over training TRs: the variance (weighted for features), of codes the cross-entropy.
    deviation: mean absolute deviation of the responses about their median, for the absolute loss. n_responses: S·V.
    """

    inputs: Mapping[str, Tensor]
    features: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    log_unigram: Mapping[str, Tensor]
    scores_TR: Tensor
    residual_energy_T: Tensor
    score_rms_R: Tensor
    parts: Mapping[str, int]
    all_parts: Mapping[str, int]
    constant_loss: Mapping[str, float]
    deviation: float
    n_responses: int
    present_TP: Tensor | None = None
    """(T, parts) 1 where the part's subject has the row; None if all have all rows. Parts are those held here."""
    share_T: Tensor | None = None
    """(T,) share of all subjects that have the row; None if all have all rows."""
    shown: Mapping[str, Tensor] = field(default_factory=dict)
    """Modality -> (T,) 1 where the stimulus has it; no entry if it has it in all rows."""

    def column_presence(self, index_BW: Tensor) -> Tensor | None:
        """Return (B, W, R): 1 for the scores of subjects who have the row, None if all have it."""
        if self.present_TP is None:
            return None
        widths = torch.tensor(list(self.parts.values()), device=self.present_TP.device)
        return self.present_TP[index_BW].repeat_interleave(widths, dim=-1)

    def n_scored(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Return component -> scored TRs: of responses weighted by the share of subjects who have them, of features
        those in which the stimulus has the modality."""
        weights = {"fmri": self.share_T, **{m: self.shown.get(m) for m in self.features}}
        return {c: sum(_weighted_count(batch, weight_T) for batch in batches) for c, weight_T in weights.items()}

    def masked_inputs(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the inputs, modality -> (B, W, F), zeroed outside valid TRs, and the validity mask (B, W)."""
        device = self.scores_TR.device
        index_BW = torch.from_numpy(batch.index_BW).to(device)
        seen_BW = torch.from_numpy(batch.seen_BW).to(device)
        return {m: x_TF[index_BW] * seen_BW[..., None] for m, x_TF in self.inputs.items()}, seen_BW

    def decode_to_features(self, modality: str, decoded_BWF: Tensor) -> Tensor:
        """Return a decoder's output as features (B, W, F): unchanged, or the probabilities of codes."""
        if modality not in self.log_unigram:
            return decoded_BWF
        log_unigram_MQ = self.log_unigram[modality]
        logits_BWMQ = decoded_BWF.reshape(*decoded_BWF.shape[:-1], *log_unigram_MQ.shape) + log_unigram_MQ
        probability_BWF: Tensor = logits_BWMQ.softmax(dim=-1).flatten(-2)
        return probability_BWF

    def to(self, device: torch.device) -> Targets:
        """Move the tensors to a device."""
        return replace(
            self,
            inputs={m: x.to(device) for m, x in self.inputs.items()},
            features={m: x.to(device) for m, x in self.features.items()},
            weights={m: x.to(device) for m, x in self.weights.items()},
            log_unigram={m: x.to(device) for m, x in self.log_unigram.items()},
            scores_TR=self.scores_TR.to(device),
            residual_energy_T=self.residual_energy_T.to(device),
            present_TP=None if self.present_TP is None else self.present_TP.to(device),
            share_T=None if self.share_T is None else self.share_T.to(device),
            shown={m: x.to(device) for m, x in self.shown.items()},
        )


def targets_of(data: PreparedSplit, compression: VoxelBasis, shards: HeadSharding) -> Targets:
    """Gather the arrays of a split; responses are read one local subject at a time."""
    train = data.split.train
    n_responses = len(data.subjects) * data.n_voxels
    scores_TR = np.zeros((data.split.n_trs, compression.n_columns), np.float32)
    energy_T = np.zeros(data.split.n_trs)
    variance, deviation = 0.0, 0.0
    n_present = int(data.n_present_T()[train].sum())
    for subject in shards.local_subjects:
        bold_TV = data.bold[subject]
        compression.add_scores(scores_TR, subject, bold_TV)
        energy_T += np.einsum("tv,tv->t", bold_TV, bold_TV, dtype=np.float64)
        own = data.rows_of(subject, train)
        # Weighted by the rows that a subject has, so that the best constant scores 1 over all training TRs.
        weight = len(own) * len(data.subjects) / n_present if data.present else 1.0
        variance += weight * float(bold_TV[own].var(axis=0, dtype=np.float64).sum()) / n_responses
        if compression.kind == "none":
            deviation += weight * _absolute_deviation(bold_TV[own]) / len(data.subjects)
    rest_T = np.maximum(energy_T - np.einsum("tr,tr->t", scores_TR, scores_TR, dtype=np.float64), 0.0)
    inputs, features, weights, unigram = shards.from_rank_0(
        (data.inputs, data.targets, data.target_weights, data.unigram)
    )
    constant_loss = {"fmri": shards.total(variance)}
    for modality, target_TF in features.items():
        shown_T = data.study.shown.get(modality)
        rows = train if shown_T is None else train[shown_T[train]]
        if modality in unigram:
            constant_loss[modality] = code_cross_entropy(target_TF[rows], unigram[modality])
        else:
            constant_loss[modality] = _weighted_variance(target_TF[rows], weights[modality])
    parts = {part.name: part.columns.stop - part.columns.start for part in compression.parts}
    return Targets(
        inputs={m: torch.from_numpy(np.ascontiguousarray(x)) for m, x in inputs.items()},
        features={m: torch.from_numpy(np.ascontiguousarray(x)) for m, x in features.items()},
        weights={m: torch.from_numpy(np.ascontiguousarray(w)) for m, w in weights.items()},
        log_unigram={m: torch.from_numpy(np.log(u)) for m, u in unigram.items()},
        scores_TR=torch.from_numpy(scores_TR),
        residual_energy_T=torch.from_numpy(rest_T.astype(np.float32)),
        score_rms_R=torch.from_numpy(_root_mean_square(scores_TR, train)),
        parts=parts,
        all_parts=shards.gather_by_subject(parts),
        constant_loss=constant_loss,
        deviation=shards.total(deviation) if compression.kind == "none" else 1.0,
        n_responses=n_responses,
        present_TP=_presence(data, list(parts)),
        share_T=torch.from_numpy(data.n_present_T() / np.float32(len(data.subjects))).float() if data.present else None,
        shown={m: torch.from_numpy(shown_T.astype(np.float32)) for m, shown_T in data.study.shown.items()},
    )


def _weighted_count(batch: Batch, weight_T: Tensor | None) -> float:
    """Return the sum of the weights of scored TRs; each counts 1 without weights."""
    if weight_T is None:
        return batch.n_scored
    rows_BW = weight_T.cpu()[torch.from_numpy(batch.index_BW)]
    return float(rows_BW[torch.from_numpy(batch.scored_BW)].sum())


def _presence(data: PreparedSplit, parts: Sequence[str]) -> Tensor | None:
    """Return (T, parts): 1 for the rows that each part's subject has; None if all have all rows that are used.

    A part that mixes the subjects is made only if all have all of these rows.
    """
    if not data.present or not set(parts) & set(data.present):
        return None
    return torch.from_numpy(np.stack([data.present[part] for part in parts], axis=1).astype(np.float32))


def _root_mean_square(scores_TR: NDArray[np.float32], train: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return (R,) over training TRs, a tile of columns at a time: without compression there is one per voxel."""
    edges = range(0, scores_TR.shape[1], TILE_COLUMNS)
    sizes = [np.sqrt(np.mean(scores_TR[train, first : first + TILE_COLUMNS] ** 2, axis=0)) for first in edges]
    return np.concatenate([np.zeros(0, np.float32), *sizes])


def _weighted_variance(target_NF: NDArray[np.float32], weight_F: NDArray[np.float32]) -> float:
    """Return the mean of weight · square over TRs and features: the loss of predicting the training mean, 0."""
    return float(np.mean(target_NF.astype(np.float64) ** 2 @ weight_F.astype(np.float64)) / target_NF.shape[1])


def _absolute_deviation(bold_NR: NDArray[np.float32]) -> float:
    return float(np.mean(np.abs(bold_NR - np.median(bold_NR, axis=0))))
