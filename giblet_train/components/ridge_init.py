"""Ridge regression in the network's own terms: what it starts from, and what weight decay pulls it back to.

All subjects' mean response and each one's deviation from it are regressed on the film's delayed features in the space
of TRs: heads shrunk towards the group. A prior says how modalities share a voxel's variance and how long its memory is;
each voxel chooses among them by `evidence`. The prediction's strongest components over training TRs become latents.

N training TRs, F features of a modality, L lags (0 first), B bands (a modality with a memory), C priors (weights of
bands), H shares of variance, K latents, V voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.marginal_likelihood import Kernels, neighbouring_voxels, posterior_weights
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.model.voxel_basis import DEVIATION, GROUP, fix_eigenvector_signs

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
QUARTERS = 4
MEMORIES_S = (0.0, 15.0)
SMOOTH_S, JITTER_S = 3.75, 1.1
LEAST_SHARE = 0.01
LEAST_VARIANCE = 1e-12
ENOUGH_VOXELS = 8192


@dataclass(frozen=True)
class RidgeInit:
    """A linear model of voxels.

    path: modality -> (K, F, L), lag 0 first. group_KV: the heads that all subjects share; own: subject -> (K, V), what
    its heads add, of several subjects. signal: part -> share of variance that the film is believed to explain, mean of
    voxels.
    """

    path: Mapping[str, Tensor]
    group_KV: Singles
    own: Mapping[str, Singles]
    signal: Mapping[str, float]


@dataclass(frozen=True)
class FeatureBand:
    """One modality with one memory. weighed_NLF: features as the prior weighs them; kernel_NN has mean diagonal 1."""

    modality: str
    weighed_NLF: Doubles
    kernel_NN: Doubles

    @classmethod
    def of(cls, modality: str, seen_NLF: Doubles, prior_LL: Doubles) -> FeatureBand:
        """seen_NLF: the delayed features. prior_LL: how weights at two lags belong together."""
        weighed_NLF = np.einsum("lm,nmf->nlf", prior_LL, seen_NLF)
        weighed_NLF /= max(float((weighed_NLF * seen_NLF).sum()) / len(seen_NLF), LEAST_VARIANCE)
        return cls(modality, weighed_NLF, np.tensordot(weighed_NLF, seen_NLF, axes=([1, 2], [1, 2])))


@dataclass(frozen=True)
class Fit:
    """Ridge of one part, group or deviation, with a prior of each voxel's own. weight_CB: the priors' weights."""

    kernels: Kernels
    weight_CB: Doubles
    band_BNN: Singles
    belief_VCH: Singles

    @property
    def signal(self) -> float:
        """Mean over voxels of the share of variance that the film explains."""
        return float((self.belief_VCH.sum(axis=1) @ np.array(self.kernels.shares)).mean())

    @property
    def common(self) -> NDArray[np.intp]:
        """The priors that explain at least LEAST_SHARE of all that is explained."""
        explained_C = (self.belief_VCH @ np.array(self.kernels.shares)).sum(axis=0)
        return np.flatnonzero(explained_C >= LEAST_SHARE * explained_C.sum())

    def predicted(self, bold_NV: Singles, every: int) -> Iterator[tuple[Singles, Singles]]:
        """Every so many voxels, some at a time: dual weights (B, N, V) and predictions over training TRs (N, V)."""
        bold_NV, belief_VCH = bold_NV[:, ::every], self.belief_VCH[::every]
        to_duals = [self.kernels.to_duals(c) for c in range(len(self.weight_CB))]
        for tile, answers in self.kernels.posterior_means(bold_NV, belief_VCH):
            dual_BNV = np.zeros((len(self.band_BNN), *bold_NV[:, tile].shape), np.float32)
            for answer in answers:
                dual_NV = to_duals[answer.kernel] @ answer.size_nV
                for band in np.flatnonzero(self.weight_CB[answer.kernel]):
                    dual_BNV[band][:, answer.voxels] += self.weight_CB[answer.kernel, band].astype(np.float32) * dual_NV
            yield dual_BNV, np.asarray((self.band_BNN @ dual_BNV).sum(axis=0))

    def heads(self, bold_NV: Singles, reader_NK: Singles) -> Singles:
        """(K, V): the prediction of every voxel, read by K combinations of training TRs."""
        kernel_CNN = np.tensordot(self.weight_CB.astype(np.float32), self.band_BNN, axes=1)
        reading = [reader_NK.T @ kernel_NN @ self.kernels.to_duals(c) for c, kernel_NN in enumerate(kernel_CNN)]
        heads_KV = np.zeros((reader_NK.shape[1], bold_NV.shape[1]), np.float32)
        for tile, answers in self.kernels.posterior_means(bold_NV, self.belief_VCH):
            for answer in answers:
                heads_KV[:, tile.start + answer.voxels] += reading[answer.kernel] @ answer.size_nV
        return heads_KV


def lag_priors(response_L: Doubles, tr_s: float, convolved: bool) -> tuple[Doubles, ...]:
    """(L, L) for each of MEMORIES_S: how weights at two lags belong together before anything is seen.

    Weights are as large as the root of the haemodynamic response, blurred as people's latencies are, and near lags are
    alike (smooth FIR, Goutte et al. 2000). With a memory the response outlasts its cause, as in areas that gather over
    seconds (Hasson et al. 2008). convolved: features that are already convolved have no further lag.
    """
    if convolved:
        return (np.outer(response_L, response_L),)
    lag_s = np.arange(len(response_L)) * tr_s
    apart_LL = np.subtract.outer(lag_s, lag_s)
    blurred_L = np.exp(-0.5 * (apart_LL / JITTER_S) ** 2) @ response_L
    alike_LL = np.exp(-0.5 * (apart_LL / SMOOTH_S) ** 2)
    priors = []
    for memory_s in MEMORIES_S:
        size_L = np.convolve(blurred_L, np.exp(-lag_s / memory_s))[: len(lag_s)] if memory_s else blurred_L
        size_L = np.sqrt(np.maximum(size_L, 0.0))
        priors.append(alike_LL * np.outer(size_L, size_L))
    return tuple(priors)


def ridge_start(
    data: PreparedSplit,
    train: Sequence[Batch],
    priors_LL: Sequence[Doubles],
    n_latents: int,
    near: float,
    shards: HeadSharding,
    say: Callable[[str], None] = lambda sentence: None,
) -> RidgeInit:
    """Fit on the training batches, each a whole block of the split, and on nothing else.

    priors_LL: of lags, from `lag_priors`. near: how much a voxel leans on the voxels it touches. Latents are those
    of all subjects, heads those of the subjects held here. say: told what comes next, for it may take minutes.
    """
    seen = delayed(data.inputs, train, len(priors_LL[0]))
    bands = [FeatureBand.of(modality, x_NLF, prior_LL) for prior_LL in priors_LL for modality, x_NLF in seen.items()]
    mean_NV = _mean(data, shards)
    say("weighing priors of what subjects share, and of what is a person's own")
    fits = _fits(data, mean_NV, bands, _weights(len(seen), len(priors_LL)), near, shards)
    n_trs = len(mean_NV)
    # What moves a whole brain moves a part of it: some voxels are enough to find the strongest components.
    every = -(-data.n_voxels // ENOUGH_VOXELS)
    gram_NN, cross_BNN = np.zeros((n_trs, n_trs)), np.zeros((len(bands), n_trs, n_trs))
    for subject, bold_NV in chain([(None, mean_NV)], _deviations(data, mean_NV, shards)):
        fit, times = (fits[DEVIATION], 1) if subject else (fits[GROUP], len(shards.local_subjects))
        for dual_BNV, predicted_NV in fit.predicted(bold_NV, every):
            gram_NN += times * (predicted_NV @ predicted_NV.T)
            cross_BNN += times * (dual_BNV @ predicted_NV.T)
    gram_NN, cross_BNN = shards.total(gram_NN), shards.total(cross_BNN)
    axes_NK, power_K = shards.from_rank_0(_strongest(gram_NN, n_latents))
    # A latent has mean square 1 over training TRs: its head is the prediction's projection on it.
    reader_NK = (axes_NK / np.sqrt(n_trs)).astype(np.float32)
    own = {}
    for subject, own_NV in _deviations(data, mean_NV, shards):
        say(f"solving the heads of {subject}")
        own[subject] = fits[DEVIATION].heads(own_NV, reader_NK)
    path = {m: np.zeros((n_latents, *x_NLF.shape[1:])) for m, x_NLF in seen.items()}
    for band, cross_NN in zip(bands, cross_BNN, strict=True):
        path[band.modality] += np.einsum(
            "nk,nlf->klf", np.sqrt(n_trs) * (cross_NN @ axes_NK) / power_K, band.weighed_NLF
        )
    group_KV = fits[GROUP].heads(mean_NV, reader_NK)
    return RidgeInit(
        shards.from_rank_0(_as_path(path)), group_KV, own, {part: fit.signal for part, fit in fits.items()}
    )


def delayed(inputs: Mapping[str, Singles], batches: Sequence[Batch], n_lags: int) -> dict[str, Doubles]:
    """modality -> (N, L, F): what the network sees at and before each scored TR, each modality of the same weight."""
    rows: dict[str, list[Doubles]] = {modality: [] for modality in inputs}
    for batch in batches:
        for modality, x_TF in inputs.items():
            x_WF = x_TF[batch.index_BW[0]] * batch.seen_BW[0][:, None] / np.sqrt(x_TF.shape[1])
            padded = np.concatenate([np.zeros((n_lags - 1, x_WF.shape[1])), x_WF])
            lagged_WLF = np.stack([padded[n_lags - 1 - lag : len(padded) - lag] for lag in range(n_lags)], axis=1)
            rows[modality].append(lagged_WLF[batch.scored_BW[0]])
    return {modality: np.concatenate(parts) for modality, parts in rows.items()}


def _weights(n_modalities: int, n_memories: int) -> Doubles:
    """(C, B): every way to share a voxel's variance among modalities in quarters, each with one memory throughout."""
    shares = [share for share in np.ndindex(*[QUARTERS + 1] * n_modalities) if sum(share) == QUARTERS]
    return np.asarray(np.kron(np.eye(n_memories), np.array(shares) / QUARTERS))


def _fits(
    data: PreparedSplit,
    mean_NV: Singles,
    bands: Sequence[FeatureBand],
    weight_CB: Doubles,
    near: float,
    shards: HeadSharding,
) -> dict[str, Fit]:
    """Of the mean response, and of the deviations by the priors that the mean has found common."""
    band_BNN = np.stack([band.kernel_NN for band in bands])
    kernels = Kernels.of(list(np.tensordot(weight_CB, band_BNN, axes=1)), data.split.train_blocks, data.drift)
    touching = neighbouring_voxels(data.study.mask_XYZ, data.voxels_V)

    def fit(kernels: Kernels, weight_CB: Doubles, misfit_VCH: Singles, n_series: int) -> Fit:
        belief_VCH = posterior_weights(kernels.log_evidence(misfit_VCH, n_series), touching, near)
        return Fit(kernels, weight_CB, band_BNN.astype(np.float32), belief_VCH)

    fits = {GROUP: fit(kernels, weight_CB, kernels.quadratic_form(mean_NV), 1)}
    if data.has_shared_rows:
        common = shards.from_rank_0(fits[GROUP].common)
        few = kernels.subset(common)
        added_VCH = np.zeros((data.n_voxels, len(common), len(few.shares)))
        for _, own_NV in _deviations(data, mean_NV, shards):
            added_VCH += few.quadratic_form(own_NV)
        misfit_VCH = shards.total(added_VCH).astype(np.float32)
        fits[DEVIATION] = fit(few, weight_CB[common], misfit_VCH, len(data.subjects) - 1)
    return fits


def _mean(data: PreparedSplit, shards: HeadSharding) -> Singles:
    """(N, V): the mean response of all subjects over training TRs."""
    sum_NV = np.zeros((len(data.split.train), data.n_voxels))
    for subject in shards.local_subjects:
        sum_NV += data.bold[subject][data.split.train]
    n_N1 = np.maximum(1, data.n_present_T()[data.split.train])[:, None]
    return np.asarray(shards.total(sum_NV) / n_N1, np.float32)


def _deviations(data: PreparedSplit, mean_NV: Singles, shards: HeadSharding) -> Iterator[tuple[str, Singles]]:
    """Each subject held here and what it adds to the mean (N, V); nobody where there is only one."""
    train = data.split.train
    for subject in shards.local_subjects if data.has_shared_rows else ():
        deviation_NV = data.bold[subject][train] - mean_NV
        if data.present:
            deviation_NV[~data.present[subject][train]] = 0.0
        yield subject, deviation_NV


def _strongest(gram_NN: Doubles, n_latents: int) -> tuple[Doubles, Doubles]:
    """(N, K) axes in which predictions are largest, and their squared size; where there are fewer, zeros and ones."""
    power_N, axes_NN = np.linalg.eigh(gram_NN)
    n_kept = min(n_latents, int((power_N > 1e-10 * power_N[-1]).sum()))
    axes_NK, power_K = np.zeros((len(gram_NN), n_latents)), np.ones(n_latents)
    axes_NK[:, :n_kept] = fix_eigenvector_signs(axes_NN[:, ::-1][:, :n_kept])
    power_K[:n_kept] = power_N[::-1][:n_kept]
    return axes_NK, power_K


def _as_path(path_KLF: Mapping[str, Doubles]) -> dict[str, Tensor]:
    """Weights of features as the network sees them, in its order of axes."""
    return {
        modality: torch.from_numpy((x_KLF / np.sqrt(x_KLF.shape[-1])).transpose(0, 2, 1).astype(np.float32))
        for modality, x_KLF in path_KLF.items()
    }
