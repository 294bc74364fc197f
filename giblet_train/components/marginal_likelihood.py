"""Marginal likelihood of each voxel's responses under several kernels and shares of explained variance.

A voxel's responses are a Gaussian process of the film with one of C kernels, plus scanner noise of the
autocorrelation NOISE. The evidence for each kernel and share of variance has a closed form (MacKay 1992), so it
needs training TRs alone. The prior over them is estimated from all voxels and from each voxel's neighbours.

N training TRs, n of them after removing drift, C kernels, k axes of a kernel, H shares of variance, V voxels,
G values of EXPLAINED.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.data.preprocessing.detrend import Block, Detrend

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
Responses = NDArray[np.floating[Any]]
SHARES = (0.0, 0.01, 0.03, 0.08, 0.15, 0.25, 0.4, 0.6, 0.8)
"""Candidate shares of a voxel's variance that the film explains; 0 is an unresponsive voxel."""
FINE_SHARES = (0.0, 0.01, 0.02, 0.03, 0.055, 0.08, 0.115, 0.15, 0.2, 0.25, 0.325, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""SHARES and the middles between those above 0, for intervals."""
EXPLAINED = np.linspace(0.0, 1.0, 101)
"""Shares of variance at which the posterior of what the film explained is evaluated."""
NOISE = {0.0: 0.45, 4.0: 0.35, 40.0: 0.2}
"""Time constant in seconds -> share of the noise's variance; 0 is white.

Motion and drift that remain are slow. Without a slow part, priors with a memory would take them for a response.
"""
ROUNDS = 10
TILE_VOXELS = 4096
LEAST_BELIEF = 1e-3
SEGMENT_TRS = 512


@dataclass(frozen=True)
class PosteriorGroup:
    """A kernel's part in the prediction of some voxels of a tile: coefficients of its k axes, (k, those voxels)."""

    kernel: int
    voxels: NDArray[np.intp]
    size_nV: Singles


class Whitener(Protocol):
    """Removes the drift of each block from responses and whitens the scanner's noise."""

    def coordinates(self, bold_NV: Responses) -> tuple[Singles, Singles]:
        """Return white responses in the coordinates that kernels use (M, V), and their total energy (V,)."""

    def gram(self, axes_Mk: Singles) -> Doubles:
        """Return the inner products (k, k) over TRs of a kernel's axes as responses, before whitening."""

    def energy(self, bold_NV: Responses) -> Doubles:
        """Return the sum of squares (V,) of responses without drift, before whitening."""


@dataclass(frozen=True)
class DenseWhitener:
    """Exact; coordinates are the n white responses."""

    matrix_nN: Doubles

    def coordinates(self, bold_NV: Responses) -> tuple[Singles, Singles]:
        """Return the white responses (n, V), and their total energy (V,)."""
        white_nV = (self.matrix_nN @ bold_NV).astype(np.float32)
        return white_nV, np.einsum("nv,nv->v", white_nV, white_nV)

    def gram(self, axes_Mk: Singles) -> Doubles:
        """Return the inner products (k, k) over TRs of a kernel's axes as responses, before whitening."""
        return np.asarray(axes_Mk.T @ self._covariance_nn @ axes_Mk, np.float64)

    def energy(self, bold_NV: Responses) -> Doubles:
        """Return the sum of squares (V,) of responses without drift, before whitening."""
        white_nV = self.matrix_nN @ bold_NV
        return np.asarray(np.einsum("nv,nv->v", white_nV, self._covariance_nn @ white_nV))

    @cached_property
    def _covariance_nn(self) -> Doubles:
        """Return the covariance of the noise without drift: inner products of white series become those before."""
        return np.asarray(np.linalg.inv(self.matrix_nN @ self.matrix_nN.T))


@dataclass(frozen=True)
class BlockWhitener:
    """Whitens at most SEGMENT_TRS TRs together, as if the noise of the next ones were independent.

    Coordinates are inner products with P white features.
    """

    blocks: Sequence[Block]
    drift: Detrend
    features_NP: Singles
    plain_NP: Singles
    """Features without drift, before whitening."""
    n_free: int

    @classmethod
    def of(cls, blocks: Sequence[Block], drift: Detrend, features_NP: Singles) -> BlockWhitener:
        """Whiten the features. blocks: the blocks of training TRs, in order."""
        n_free = sum(stop - start - drift.regressors(stop - start).shape[1] for start, stop in blocks)
        plain_NP = drift.apply(features_NP, blocks)
        return cls(blocks, drift, prewhiten(features_NP, blocks, drift), plain_NP, n_free)

    def coordinates(self, bold_NV: Responses) -> tuple[Singles, Singles]:
        """Return inner products of features and responses (P, V), and the total energy of responses (V,)."""
        white_NV = prewhiten(bold_NV, self.blocks, self.drift)
        return self.features_NP.T @ white_NV, np.einsum("nv,nv->v", white_NV, white_NV)

    def gram(self, axes_Mk: Singles) -> Doubles:
        """Return the inner products (k, k) over TRs of a kernel's axes as responses, before whitening."""
        axes_Nk = self.plain_NP @ axes_Mk
        return np.asarray(axes_Nk.T @ axes_Nk, np.float64)

    def energy(self, bold_NV: Responses) -> Doubles:
        """Return the sum of squares (V,) of responses without drift, before whitening."""
        plain_NV = self.drift.apply(np.asarray(bold_NV, np.float32), self.blocks)
        return np.asarray(np.einsum("nv,nv->v", plain_NV, plain_NV), np.float64)


@dataclass(frozen=True)
class Kernels:
    """Eigenvalues and eigenvectors of TR kernels after drift removal and noise whitening."""

    whitener: Whitener
    values: tuple[Doubles, ...]
    """Kernel -> its eigenvalues (k,); those left out are 0."""
    axes: tuple[Singles, ...]
    """Kernel -> (M, k): the coordinates of the whitener to coefficients of the kernel's axes."""
    n_free: int
    """n: white responses of a voxel."""
    shares: tuple[float, ...] = SHARES

    @classmethod
    def of(cls, kernels: Sequence[Doubles], blocks: Sequence[Block], drift: Detrend) -> Kernels:
        """Decompose kernels (N, N). blocks: the blocks of training TRs, in order."""
        whitener_nN = _whitener(blocks, drift)
        values, axes = [], []
        for kernel_NN in kernels:
            values_n, axes_nn = np.linalg.eigh(whitener_nN @ kernel_NN @ whitener_nN.T)
            values.append(np.maximum(values_n, 0.0))
            axes.append(axes_nn.astype(np.float32))
        return cls(DenseWhitener(whitener_nN), tuple(values), tuple(axes), len(whitener_nN))

    def subset(self, index: NDArray[np.intp]) -> Kernels:
        """Return some of the kernels."""
        return replace(self, values=tuple(self.values[c] for c in index), axes=tuple(self.axes[c] for c in index))

    def variance_Hk(self, kernel: int) -> Doubles:
        """Return the expected variance along each axis by share, relative to the voxel's variance."""
        share_H1 = np.array(self.shares)[:, None]
        return np.asarray(share_H1 * self.values[kernel] + 1.0 - share_H1)

    def quadratic_form(self, bold_NV: Responses) -> Singles:
        """Return (V, C, H): squared responses over their expected variance; additive over subjects."""
        misfit_VCH = np.empty((bold_NV.shape[1], len(self.values), len(self.shares)), np.float32)
        rest_H1 = (1.0 / (1.0 - np.array(self.shares)))[:, None]
        for tile, at_MV, energy_V in self._white(bold_NV):
            for c, axes_Mk in enumerate(self.axes):
                square_kV = (axes_Mk.T @ at_MV) ** 2
                misfit_HV = (1.0 / self.variance_Hk(c)).astype(np.float32) @ square_kV
                if len(square_kV) < self.n_free:
                    misfit_HV = misfit_HV + rest_H1 * np.maximum(energy_V - square_kV.sum(axis=0), 0.0)
                misfit_VCH[tile, c] = misfit_HV.T
        return misfit_VCH

    def log_evidence(self, misfit_VCH: Singles, n_series: int) -> Singles:
        """Return the log evidence (V, C, H), up to a constant per voxel; the voxel's variance is integrated out.

        n_series: number of independent series per voxel whose misfit is summed.
        """
        n, shares = self.n_free, np.array(self.shares)
        spread_CH = np.stack(
            [
                np.log(self.variance_Hk(c)).sum(axis=1) + (n - len(values_k)) * np.log(1.0 - shares)
                for c, values_k in enumerate(self.values)
            ]
        )
        fit_VCH = n * np.log(np.maximum(misfit_VCH, np.finfo(np.float32).tiny))
        return np.asarray(-0.5 * n_series * (spread_CH + fit_VCH), np.float32)

    def posterior_means(self, bold_NV: Responses, belief_VCH: Singles) -> Iterator[tuple[slice, list[PosteriorGroup]]]:
        """Yield each tile of voxels with the posterior mean of every kernel that has weight there."""
        share_H1 = np.array(self.shares)[:, None]
        gains = [(share_H1 / self.variance_Hk(c)).astype(np.float32) for c in range(len(self.values))]
        for tile, at_MV, _ in self._white(bold_NV):
            groups = []
            for c, axes_Mk in enumerate(self.axes):
                believed_VH = belief_VCH[tile, c]
                voxels = np.flatnonzero(believed_VH[:, 1:].sum(axis=1) > LEAST_BELIEF)
                if len(voxels):
                    gain_kV = gains[c].T @ believed_VH[voxels].T
                    groups.append(PosteriorGroup(c, voxels, gain_kV * (axes_Mk.T @ at_MV[:, voxels])))
            yield tile, groups

    def explained(self, bold_NV: Responses, misfit_VCH: Singles, belief_VCH: Singles) -> Singles:
        """Return the posterior distribution (V, G) of the share of variance that the film explained in these TRs.

        It is the probability that the share is at most EXPLAINED. The share in these TRs is that of the response
        itself, which scatters around the prior's share: a film of minutes has few independent events.
        misfit_VCH: from `quadratic_form`.
        """
        below_VG = np.repeat(belief_VCH[:, :, :1].sum(axis=1), len(EXPLAINED), axis=1).astype(np.float32)
        gram_Ckk = [self.whitener.gram(axes_Mk) for axes_Mk in self.axes]
        for tile, at_MV, _ in self._white(bold_NV):
            energy_V = np.maximum(self.whitener.energy(bold_NV[:, tile]), np.finfo(np.float32).tiny)
            for c, axes_Mk in enumerate(self.axes):
                size_kV = (axes_Mk.T @ at_MV) / np.sqrt(energy_V)
                for h in range(1, len(self.shares)):
                    belief_V = belief_VCH[tile, c, h]
                    voxels = np.flatnonzero(belief_V > LEAST_BELIEF)
                    scale_V = misfit_VCH[tile, c, h][voxels] / (self.n_free * energy_V[voxels])
                    mean_V, sd_V = self._response_energy(c, h, gram_Ckk[c], size_kV[:, voxels], scale_V)
                    distance_VG = torch.from_numpy((EXPLAINED - mean_V[:, None]) / sd_V[:, None])
                    probability_VG = torch.special.ndtr(distance_VG).numpy()
                    below_VG[tile.start + voxels] += belief_V[voxels, None] * probability_VG
        return np.asarray(below_VG / np.maximum(below_VG[:, -1:], np.finfo(np.float32).tiny))

    def _response_energy(
        self, kernel: int, h: int, gram_kk: Doubles, size_kV: Responses, scale_V: Responses
    ) -> tuple[Doubles, Doubles]:
        """Return mean and standard deviation (V,) of a response's sum of squares under one kernel and share.

        size_kV: coefficients of the kernel's axes in the responses. scale_V: variance of the responses.
        """
        share, expected_k = self.shares[h], self.variance_Hk(kernel)[h]
        gain_k = share * self.values[kernel] / expected_k
        spread_k = gain_k * (1.0 - share)
        mean_kV = gain_k[:, None] * size_kV
        seen_kV = gram_kk @ mean_kV
        energy_V = np.einsum("kv,kv->v", mean_kV, seen_kV) + scale_V * (np.diag(gram_kk) @ spread_k)
        spread_kk = gram_kk * spread_k
        variance_V = 2.0 * scale_V**2 * float((spread_kk * spread_kk.T).sum())
        variance_V = variance_V + 4.0 * scale_V * (spread_k @ seen_kV**2)
        return energy_V, np.sqrt(np.maximum(variance_V, np.finfo(np.float32).tiny))

    def _white(self, bold_NV: Responses) -> Iterator[tuple[slice, Singles, Singles]]:
        for start in range(0, bold_NV.shape[1], TILE_VOXELS):
            tile = slice(start, start + TILE_VOXELS)
            yield tile, *self.whitener.coordinates(bold_NV[:, tile])


def posterior_weights(log_evidence_VCH: Singles, touching: Sequence[NDArray[np.intp]], near: float) -> Singles:
    """Return the posterior probability (V, C, H) of each kernel and share in each voxel.

    A voxel's prior is the mean posterior of its neighbours (weight `near`) and of all voxels (the rest), estimated by
    ROUNDS of expectation and maximisation.
    """
    n_voxels = len(log_evidence_VCH)
    flat_VP = log_evidence_VCH.reshape(n_voxels, -1)
    likely_VP = np.exp(flat_VP - flat_VP.max(axis=1, keepdims=True))
    belief_VP = likely_VP / likely_VP.sum(axis=1, keepdims=True)
    for _ in range(ROUNDS):
        common_P = belief_VP.mean(axis=0)
        belief_VP = near * _mean_of_neighbours(belief_VP, touching, common_P) if near else np.zeros_like(belief_VP)
        belief_VP += (1.0 - near) * common_P
        belief_VP *= likely_VP
        belief_VP /= np.maximum(belief_VP.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(belief_VP.reshape(log_evidence_VCH.shape))


def evidence_of_kernels(log_evidence_VCH: Singles, belief_VCH: Singles) -> Singles:
    """Return the log evidence (V, C) of each kernel whatever the share, with the shares' mean posterior as prior."""
    prior_H = belief_VCH.mean(axis=0).sum(axis=0)
    largest_VC1 = log_evidence_VCH.max(axis=2, keepdims=True)
    likely_VC = np.exp(log_evidence_VCH - largest_VC1) @ prior_H
    return np.asarray(largest_VC1[:, :, 0] + np.log(np.maximum(likely_VC, np.finfo(np.float32).tiny)))


def explained_distribution(kernels: Kernels, bold_NV: Responses, common_CH: Singles) -> Singles:
    """Return the posterior distribution (V, G) of the share that the film explained, by each voxel's own evidence.

    common_CH: prior that all voxels share, over the shares of the kernels.
    """
    fine = replace(kernels, shares=FINE_SHARES)
    misfit_VCH = fine.quadratic_form(bold_NV)
    log_evidence_VCH = fine.log_evidence(misfit_VCH, 1)
    belief_VCH = np.exp(log_evidence_VCH - log_evidence_VCH.max(axis=(1, 2), keepdims=True)) * _refined(common_CH)
    belief_VCH /= np.maximum(belief_VCH.sum(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    return fine.explained(bold_NV, misfit_VCH, belief_VCH)


def _refined(prior_CH: Singles) -> Singles:
    """Return a prior over SHARES as one over FINE_SHARES: half stays, a quarter goes to either middle.

    All of the share of 0 stays, and the first share above it keeps what would go below it.
    """
    fine_CH = np.zeros((len(prior_CH), len(FINE_SHARES)), np.float32)
    fine_CH[:, 0] = prior_CH[:, 0]
    fine_CH[:, 1::2] = 0.5 * prior_CH[:, 1:]
    fine_CH[:, 1] += 0.25 * prior_CH[:, 1]
    fine_CH[:, 2::2] = 0.25 * prior_CH[:, 1:]
    fine_CH[:, 2:-1:2] += 0.25 * prior_CH[:, 2:]
    return fine_CH


def neighbouring_voxels(mask: NDArray[np.bool_], voxels: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return for each of the six faces (V,) the neighbouring voxel, -1 if it is outside the mask.

    mask: in the shape of the study's geometry; a geometry that is not a grid has no neighbours, [].
    voxels: indices into the voxels of the mask, in any order; only these count as neighbours.
    """
    if mask.ndim != 3:
        return []
    place_V3 = np.argwhere(mask)[voxels] + 1
    at_XYZ = np.full(np.array(mask.shape) + 2, -1, np.intp)
    at_XYZ[tuple(place_V3.T)] = np.arange(len(voxels))
    steps = [sign * np.eye(3, dtype=np.intp)[axis] for axis, sign in itertools.product(range(3), (-1, 1))]
    return [at_XYZ[tuple((place_V3 + step).T)] for step in steps]


def _mean_of_neighbours(belief_VP: Singles, touching: Sequence[NDArray[np.intp]], common_P: Singles) -> Singles:
    """Return the mean posterior of each voxel's neighbours; of all voxels if it has none."""
    total_VP = np.zeros_like(belief_VP)
    n_V = np.zeros(len(belief_VP), np.float32)
    for other_V in touching:
        there = np.flatnonzero(other_V >= 0)
        total_VP[there] += belief_VP[other_V[there]]
        n_V[there] += 1.0
    total_VP[n_V == 0] = common_P
    return np.asarray(total_VP / np.maximum(n_V, 1.0)[:, None], np.float32)


def _whitener(blocks: Sequence[Block], drift: Detrend) -> Doubles:
    """Return (n, N): removes the drift of each block and whitens the noise."""
    n_trs = [stop - start for start, stop in blocks]
    rows, noise_NN, first = [], np.zeros((sum(n_trs), sum(n_trs))), 0
    for n in n_trs:
        courses_NK = drift.regressors(n)
        complete_NN, _ = np.linalg.qr(courses_NK, mode="complete")
        free_nN = np.zeros((n - courses_NK.shape[1], sum(n_trs)))
        free_nN[:, first : first + n] = complete_NN[:, courses_NK.shape[1] :].T
        rows.append(free_nN)
        noise_NN[first : first + n, first : first + n] = noise_covariance(n, drift.tr_s)
        first += n
    free_nN = np.concatenate(rows)
    return np.asarray(np.linalg.solve(np.linalg.cholesky(free_nN @ noise_NN @ free_nN.T), free_nN))


def prewhiten(x_NV: Responses, blocks: Sequence[Block], drift: Detrend) -> Singles:
    """Return series over the TRs of blocks (N, V) without the drift of each block, and with white scanner noise.

    At most SEGMENT_TRS TRs are whitened together.
    """
    white_NV, first = drift.apply(np.asarray(x_NV, np.float32), blocks), 0
    root_of = {}
    for start, stop in blocks:
        n_parts = -(-(stop - start) // SEGMENT_TRS)
        for part in np.array_split(np.arange(first, first + stop - start), n_parts):
            n = len(part)
            if n not in root_of:
                root_of[n] = np.linalg.inv(np.linalg.cholesky(noise_covariance(n, drift.tr_s))).astype(np.float32)
            white_NV[part] = root_of[n] @ white_NV[part]
        first += stop - start
    return np.asarray(white_NV, np.float32)


def noise_covariance(n_trs: int, tr_s: float) -> Doubles:
    """Return the covariance (N, N) of the scanner's noise in consecutive TRs, of variance 1."""
    apart_NN = np.abs(np.subtract.outer(np.arange(n_trs), np.arange(n_trs))) * tr_s
    parts = (np.exp(-apart_NN / s) if s else np.eye(n_trs) for s in NOISE)
    return np.asarray(sum(share * part_NN for share, part_NN in zip(NOISE.values(), parts, strict=True)))
