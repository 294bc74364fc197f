"""Initialise the network with ridge regression, which weight decay also pulls back to.

The mean response of all subjects and each subject's deviation from it are regressed on the film's delayed features:
heads shrunk towards the group. A prior states how feature spaces share a voxel's explained variance
and how long its memory is; each voxel chooses by evidence (`marginal_likelihood`). Priors with one modality or several
are tried first, then the common ones with a share of a nonlinear feature space (`model.feature_expansion`). The
strongest components of the predictions over training TRs become latents.

T TRs, N training TRs, F features of a space, L lags (0 first), B bands (a feature space with a memory), C priors
(weights of bands), H shares of variance, P coordinates of `band_functions`, K latents, V voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.band_functions import BandFunctions, DualBands, PrimalBands, band_functions
from giblet_train.components.batches import Batch
from giblet_train.components.fit_expansion import expanded, fit_expansion
from giblet_train.components.head_sharding import HeadSharding
from giblet_train.components.lagged_features import FeatureBand, LagIndex, bands_of
from giblet_train.components.marginal_likelihood import (
    Kernels,
    evidence_of_kernels,
    explained_distribution,
    neighbouring_voxels,
    posterior_weights,
)
from giblet_train.components.voxel_posterior import VoxelPosterior, voxel_posterior
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.model.feature_expansion import FeatureExpansion
from giblet_train.model.voxel_basis import DEVIATION, GROUP

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
QUARTERS, HALVES, FEW_SPACES = 4, 2, 6
MEMORIES_S = (0.0, 15.0)
SMOOTH_S = (3.75, 30.0)
"""Time over which weights at two lags are similar, for each of MEMORIES_S.

Responses differ in latency and width, so weights without memory may change in seconds. A memory is a slow decay whose
shape varies little: freedom at each lag would only fit noise.
"""
JITTER_S = 1.1
LEAST_SHARE = 0.01
ENOUGH_VOXELS = 8192
LINEAR_PARENTS = 3
"""Linear priors that are combined with nonlinear feature spaces: the most common ones."""
LEAST_NONLINEAR = 0.05
"""Share of the explained variance below which a nonlinear feature space is dropped."""
NONLINEAR_SHARES = (0.35, 0.7, 1.0)
SCREENING_TRS = 800
"""Priors are screened on at most this many training TRs; the evidence of those that remain uses all of them."""


@dataclass(frozen=True)
class RidgeInit:
    """A model of voxels that is linear in features and expanded features."""

    path: Mapping[str, Tensor]
    """Feature space -> (K, F, L), lag 0 first."""
    expansion: FeatureExpansion | None
    """Computes the nonlinear feature spaces of `path`; None if no voxel uses one."""
    group_KV: Singles
    """Heads that all subjects share."""
    own: Mapping[str, Singles]
    """Subject -> (K, V) deviation of its heads; empty for a single subject."""
    signal: Mapping[str, float]
    """Part -> share of variance that the film is estimated to explain, mean over voxels."""
    space_shares: Mapping[str, float]
    """Feature space -> share of the explained variance of the mean response."""
    posterior: VoxelPosterior
    """Posterior of each voxel of the mean response."""


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of each voxel, from `neighbouring_voxels`, and their weight in its prior."""

    touching: Sequence[NDArray[np.intp]]
    near: float


@dataclass(frozen=True)
class Fit:
    """Ridge of one part, group or deviation, with a posterior over priors in each voxel."""

    functions: BandFunctions
    kernels: Kernels
    weight_CB: Doubles
    log_evidence_VCH: Singles
    belief_VCH: Singles

    @classmethod
    def of(
        cls,
        functions: BandFunctions,
        kernels: Kernels,
        weight_CB: Doubles,
        log_evidence_VCH: Singles,
        neighbours: Neighbours,
    ) -> Fit:
        """Compute the posterior."""
        belief_VCH = posterior_weights(log_evidence_VCH, neighbours.touching, neighbours.near)
        return cls(functions, kernels, weight_CB, log_evidence_VCH, belief_VCH)

    @property
    def signal(self) -> float:
        """Return the share of variance that the film explains, mean over voxels."""
        return float((self.belief_VCH.sum(axis=1) @ np.array(self.kernels.shares)).mean())

    @property
    def explained_C(self) -> Doubles:
        """Return the explained variance of all voxels by prior."""
        return np.asarray((self.belief_VCH @ np.array(self.kernels.shares)).sum(axis=0), np.float64)

    @property
    def common(self) -> NDArray[np.intp]:
        """Return the priors that account for at least LEAST_SHARE of the explained variance."""
        return common_priors(self.explained_C)

    def weights(self, bold_NV: Singles, every: int) -> Iterator[Singles]:
        """Yield the weights (P, V) of the predictions of every n-th voxel, a tile at a time."""
        bold_NV, belief_VCH = bold_NV[:, ::every], self.belief_VCH[::every]
        for tile, groups in self.kernels.posterior_means(bold_NV, belief_VCH):
            yield self.functions.weights(self.kernels, self.weight_CB, groups, bold_NV[:, tile].shape[1])

    def heads(self, bold_NV: Singles, reader_KP: Singles) -> Singles:
        """Return heads (K, V): K numbers that are read from the prediction of every voxel."""
        readings = self.functions.readings(reader_KP, self.kernels, self.weight_CB)
        heads_KV = np.zeros((len(reader_KP), bold_NV.shape[1]), np.float32)
        for tile, groups in self.kernels.posterior_means(bold_NV, self.belief_VCH):
            for group in groups:
                heads_KV[:, tile.start + group.voxels] += readings[group.kernel] @ group.size_nV
        return heads_KV


def common_priors(explained_C: Doubles) -> NDArray[np.intp]:
    """Return the priors that account for at least LEAST_SHARE of the explained variance."""
    return np.flatnonzero(explained_C >= LEAST_SHARE * explained_C.sum())


def lag_priors(response_L: Doubles, tr_s: float, convolved: bool) -> tuple[Doubles, ...]:
    """Return the prior covariance (L, L) of the weights at two lags, for each of MEMORIES_S.

    A weight's size is the root of the haemodynamic response, blurred by the variation of latencies between people;
    weights at close lags are similar (smooth FIR, Goutte et al. 2000). With a memory the response outlasts its cause,
    as in areas that integrate over seconds (Hasson et al. 2008). convolved: features already convolved have no lag.
    """
    if convolved:
        return (np.outer(response_L, response_L),)
    lag_s = np.arange(len(response_L)) * tr_s
    apart_LL = np.subtract.outer(lag_s, lag_s)
    blurred_L = np.exp(-0.5 * (apart_LL / JITTER_S) ** 2) @ response_L
    priors = []
    for memory_s, smooth_s in zip(MEMORIES_S, SMOOTH_S, strict=True):
        alike_LL = np.exp(-0.5 * (apart_LL / smooth_s) ** 2)
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
    report: Callable[[str], None] = lambda sentence: None,
    *,
    nonlinear: bool = False,
    seed: int = 0,
) -> RidgeInit:
    """Fit on training TRs alone.

    Args:
        data: the split.
        train: batches of one window each, the blocks of training TRs.
        priors_LL: priors over lags, from `lag_priors`.
        n_latents: K, for the responses of all subjects.
        near: weight of neighbouring voxels in a voxel's prior.
        shards: heads are returned for local subjects only.
        report: receives progress messages, because this may take minutes.
        nonlinear: also try nonlinear feature spaces.
        seed: of their random projections.
    """
    index = LagIndex.of(train, len(priors_LL[0]))
    spaces = {m: x_TF / np.sqrt(x_TF.shape[1]) for m, x_TF in data.inputs.items()}
    expansion = fit_expansion(data.inputs, priors_LL[0], index, seed) if nonlinear else None
    expansion = shards.from_rank_0(expansion)
    linear_names = tuple(spaces)
    if expansion is not None:
        spaces |= expanded(expansion, data.inputs)
    bands = bands_of(spaces, priors_LL, index)
    mean_NV = _mean(data, shards)
    search = PriorSearch(data, bands, index, linear_names, near, shards, report)
    weight_CB = search.common_weights(mean_NV)
    used_B = np.asarray(weight_CB.any(axis=0))
    memory_s_B = np.repeat(MEMORIES_S[: len(priors_LL)], len(spaces))[used_B]
    bands, weight_CB = [band for band, is_used in zip(bands, used_B, strict=True) if is_used], weight_CB[:, used_B]
    functions = band_functions(bands, index)
    if isinstance(functions, PrimalBands):
        n_axes = functions.z_NP.shape[1]
        report(f"{len(mean_NV)} training TRs: {n_axes} leading axes of {len(bands)} feature bands in place of all TRs")
    report(f"computing the evidence of {len(weight_CB)} priors")
    fits, both = _fits(data, mean_NV, functions, weight_CB, near, shards)
    reader_KP, weights_PK = _latents(data, mean_NV, fits, n_latents, shards)
    own = {}
    for subject, own_NV in _deviations(data, mean_NV, shards):
        report(f"solving the heads of {subject}")
        own[subject] = fits[DEVIATION].heads(own_NV, reader_KP)
    path: dict[str, Doubles] = {}
    for band, path_KLF in zip(bands, functions.paths(weights_PK), strict=True):
        path[band.space] = path.get(band.space, 0.0) + path_KLF
    tensors = {
        space: _as_path(path_KLF, np.sqrt(path_KLF.shape[-1]) if space in linear_names else 1.0)
        for space, path_KLF in path.items()
    }
    return RidgeInit(
        shards.from_rank_0(tensors),
        expansion if set(path) - set(linear_names) else None,
        fits[GROUP].heads(mean_NV, reader_KP),
        own,
        {part: fit.signal for part, fit in fits.items()},
        _space_shares(fits[GROUP], bands),
        _posterior(fits[GROUP], both, mean_NV, bands, memory_s_B),
    )


@dataclass(frozen=True)
class PriorSearch:
    """Search for the priors that at least some voxels need, by the evidence of the mean response."""

    data: PreparedSplit
    bands: Sequence[FeatureBand]
    index: LagIndex
    linear_names: Sequence[str]
    near: float
    shards: HeadSharding
    report: Callable[[str], None]

    def common_weights(self, mean_NV: Singles) -> Doubles:
        """Return the weights of bands (C, B) of the common priors; all linear ones without nonlinear spaces."""
        linear_CB = self._linear_weights()
        if all(band.space in self.linear_names for band in self.bands):
            return linear_CB
        rows, blocks = screening_rows(self.data.split.train_blocks)
        few = self.index.rows(rows)
        self.report(f"screening {len(linear_CB)} linear priors on {len(rows)} TRs")
        functions = DualBands.of(self.bands, few)
        explained_C = self._explained(mean_NV[rows], functions, linear_CB, blocks)
        parents = explained_C.argsort()[::-1][:LINEAR_PARENTS]
        linear_CB = linear_CB[np.union1d(common_priors(explained_C), parents)]
        mixed_CB = self._mixed_weights(self._linear_weights()[parents])
        self.report(f"screening {len(mixed_CB)} nonlinear priors on {len(rows)} TRs")
        weight_CB = np.concatenate([linear_CB, mixed_CB])
        explained_C = self._explained(mean_NV[rows], functions, weight_CB, blocks)
        rare_B = explained_C @ weight_CB < LEAST_NONLINEAR * explained_C.sum()
        rare_B &= np.array([band.space not in self.linear_names for band in self.bands])
        explained_C = np.where(weight_CB[:, rare_B].any(axis=1), 0.0, explained_C)
        return weight_CB[np.union1d(np.arange(len(linear_CB)), common_priors(explained_C))]

    def _explained(
        self, mean_NV: Singles, functions: BandFunctions, weight_CB: Doubles, blocks: Sequence[tuple[int, int]]
    ) -> Doubles:
        fit = _fit_group(self.data, mean_NV, functions, weight_CB, blocks, self.near)
        return self.shards.from_rank_0(fit.explained_C)

    def _linear_weights(self) -> Doubles:
        """Return every way to share a voxel's variance among feature spaces in quarters, each with one memory (C, B).

        Among more than FEW_SPACES it is shared in halves: the number of ways grows with the fourth power of theirs.
        """
        n_linear, n_spaces = len(self.linear_names), len({band.space for band in self.bands})
        n_parts = QUARTERS if n_linear <= FEW_SPACES else HALVES
        padded = np.pad(np.array(compositions(n_parts, n_linear)) / n_parts, ((0, 0), (0, n_spaces - n_linear)))
        return np.asarray(np.kron(np.eye(len(self.bands) // n_spaces), padded))

    def _mixed_weights(self, parent_CB: Doubles) -> Doubles:
        """Return the parents with a share of one nonlinear band of the same memory, and each such band alone (C, B)."""
        rows = []
        for band, nonlinear in enumerate(self.bands):
            if nonlinear.space in self.linear_names:
                continue
            same_memory = [
                parent_B for parent_B in parent_CB if self._memory(np.flatnonzero(parent_B)[0]) == self._memory(band)
            ]
            for share in NONLINEAR_SHARES:
                for parent_B in same_memory if share < 1.0 else [np.zeros(len(self.bands))]:
                    mixed_B = (1.0 - share) * parent_B
                    mixed_B[band] += share
                    rows.append(mixed_B)
        return np.array(rows)

    def _memory(self, band: int) -> int:
        return band // len({b.space for b in self.bands})


def screening_rows(blocks: Sequence[tuple[int, int]]) -> tuple[NDArray[np.intp], list[tuple[int, int]]]:
    """Return positions among the training TRs of at most SCREENING_TRS TRs, and their blocks.

    The first part of every block is used, so that all of the film is represented.
    """
    n_trs = sum(stop - start for start, stop in blocks)
    share = min(1.0, SCREENING_TRS / n_trs)
    rows, parts, first = [], [], 0
    for start, stop in blocks:
        n = max(1, int(share * (stop - start)))
        rows.append(np.arange(first, first + n))
        parts.append((start, start + n))
        first += stop - start
    return np.concatenate(rows), parts


def _fit_group(
    data: PreparedSplit,
    mean_NV: Singles,
    functions: BandFunctions,
    weight_CB: Doubles,
    blocks: Sequence[tuple[int, int]],
    near: float,
) -> Fit:
    """Fit the mean response."""
    kernels = functions.kernels(weight_CB, blocks, data.drift)
    log_evidence_VCH = kernels.log_evidence(kernels.quadratic_form(mean_NV), 1)
    return Fit.of(functions, kernels, weight_CB, log_evidence_VCH, _neighbours(data, near))


def _neighbours(data: PreparedSplit, near: float) -> Neighbours:
    return Neighbours(neighbouring_voxels(data.study.mask, data.voxels_V), near)


def _fits(
    data: PreparedSplit,
    mean_NV: Singles,
    functions: BandFunctions,
    weight_CB: Doubles,
    near: float,
    shards: HeadSharding,
) -> tuple[dict[str, Fit], Fit]:
    """Fit the mean response, and the deviations by the priors that are common in the mean.

    Returns:
        The fits, and one of the mean's share of variance by the evidence of both: subjects differ in their responses
        to a space more than in the spaces that they respond to.
    """
    group = _fit_group(data, mean_NV, functions, weight_CB, data.split.train_blocks, near)
    if not data.has_shared_rows:
        return {GROUP: group}, group
    common = shards.from_rank_0(group.common)
    few = group.kernels.subset(common)
    added_VCH = np.zeros((data.n_voxels, len(common), len(few.shares)))
    for _, own_NV in _deviations(data, mean_NV, shards):
        added_VCH += few.quadratic_form(own_NV)
    misfit_VCH = shards.total(added_VCH).astype(np.float32)
    neighbours, log_evidence_VCH = _neighbours(data, near), few.log_evidence(misfit_VCH, len(data.subjects) - 1)
    deviation = Fit.of(functions, few, weight_CB[common], log_evidence_VCH, neighbours)
    of_kernels_VC = evidence_of_kernels(log_evidence_VCH, deviation.belief_VCH)
    both_VCH = group.log_evidence_VCH[:, common] + of_kernels_VC[:, :, None]
    both = Fit.of(functions, few, weight_CB[common], both_VCH, neighbours)
    return {GROUP: group, DEVIATION: deviation}, both


def _latents(
    data: PreparedSplit, mean_NV: Singles, fits: Mapping[str, Fit], n_latents: int, shards: HeadSharding
) -> tuple[Singles, Doubles]:
    """Return what reads the latents of predictions (K, P), and the weights of the latents (P, K)."""
    # What moves a whole brain moves a part of it: some voxels suffice to find the strongest components.
    every = -(-data.n_voxels // ENOUGH_VOXELS)
    functions = fits[GROUP].functions
    moments = functions.moments()
    for subject, bold_NV in chain([(None, mean_NV)], _deviations(data, mean_NV, shards)):
        fit, times = (fits[DEVIATION], 1) if subject else (fits[GROUP], len(shards.local_subjects))
        for weights_PV in fit.weights(bold_NV, every):
            functions.add_moments(moments, weights_PV, times)
    moments = [shards.total(moment) for moment in moments]
    return shards.from_rank_0(functions.strongest(moments, n_latents))


def _posterior(
    group: Fit, both: Fit, mean_NV: Singles, bands: Sequence[FeatureBand], memory_s_B: Doubles
) -> VoxelPosterior:
    """Summarise what the mean says about the strength of responses, and mean and deviations about spaces and memory."""
    spaces = [band.space for band in bands]
    explained_VG = explained_distribution(group.kernels, mean_NV, group.belief_VCH.mean(axis=0))
    share_VH = group.belief_VCH.sum(axis=1)
    return voxel_posterior(
        both.belief_VCH, share_VH, explained_VG, group.kernels.shares, both.weight_CB, spaces, memory_s_B
    )


def compositions(total: int, n: int) -> list[tuple[int, ...]]:
    """Return every n-tuple of whole numbers, from 0, that sum to `total`, in ascending order."""
    if n == 1:
        return [(total,)]
    return [(first, *rest) for first in range(total + 1) for rest in compositions(total - first, n - 1)]


def _space_shares(fit: Fit, bands: Sequence[FeatureBand]) -> dict[str, float]:
    """Return feature space -> its share of the explained variance."""
    explained_C = fit.explained_C
    share_B = explained_C @ fit.weight_CB / max(explained_C.sum(), 1e-12)
    spaces = dict.fromkeys(band.space for band in bands)
    return {s: float(sum(v for band, v in zip(bands, share_B, strict=True) if band.space == s)) for s in spaces}


def _mean(data: PreparedSplit, shards: HeadSharding) -> Singles:
    """Return the mean response (N, V) of all subjects over training TRs."""
    sum_NV = np.zeros((len(data.split.train), data.n_voxels))
    for subject in shards.local_subjects:
        sum_NV += data.bold[subject][data.split.train]
    n_N1 = np.maximum(1, data.n_present_T()[data.split.train])[:, None]
    return np.asarray(shards.total(sum_NV) / n_N1, np.float32)


def _deviations(data: PreparedSplit, mean_NV: Singles, shards: HeadSharding) -> Iterator[tuple[str, Singles]]:
    """Yield each local subject and its deviation from the mean (N, V); nothing if no rows are shared."""
    train = data.split.train
    for subject in shards.local_subjects if data.has_shared_rows else ():
        deviation_NV = data.bold[subject][train] - mean_NV
        if data.present:
            deviation_NV[~data.present[subject][train]] = 0.0
        yield subject, deviation_NV


def _as_path(path_KLF: Doubles, divisor: float) -> Tensor:
    """Return weights (K, F, L) for features as the network receives them."""
    return torch.from_numpy(np.ascontiguousarray((path_KLF / divisor).transpose(0, 2, 1), np.float32))
