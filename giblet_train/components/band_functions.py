"""Functions of training TRs that are linear in feature bands, in one of two coordinates.

`DualBands` works in the space of TRs: exact, and its cost grows with N³. `PrimalBands` keeps at most BAND_AXES axes of
each band, found on at most LANDMARK_TRS training TRs (the Nyström method, Williams and Seeger 2001), so its cost grows
with N. `band_functions` selects the second above MOST_DUAL_TRS training TRs.

N training TRs, B bands, C priors (weights of bands), P coordinates, n axes of a kernel, K latents, V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from giblet_train.components.lagged_features import FeatureBand, LagIndex
from giblet_train.components.marginal_likelihood import (
    BlockWhitener,
    DenseWhitener,
    Kernels,
    PosteriorGroup,
)
from giblet_train.data.preprocessing.detrend import Block, Detrend
from giblet_train.model.voxel_basis import fix_eigenvector_signs

Doubles = NDArray[np.float64]
Singles = NDArray[np.float32]
MOST_DUAL_TRS = 2500
LANDMARK_TRS = 1500
BAND_AXES = 384
LEAST_POWER = 1e-6
"""Power of an axis relative to the strongest one, below which it is dropped."""
TILE_TRS = 4096


class BandFunctions(Protocol):
    """Functions of training TRs, given by weights (P, V) in some coordinates."""

    def kernels(self, weight_CB: Doubles, blocks: Sequence[Block], drift: Detrend) -> Kernels:
        """Decompose the kernel of each prior. blocks: the blocks of training TRs."""

    def weights(self, kernels: Kernels, weight_CB: Doubles, groups: Sequence[PosteriorGroup], n_voxels: int) -> Singles:
        """Return the weights (P, V) of the sum of some groups' functions."""

    def readings(self, reader_KP: Singles, kernels: Kernels, weight_CB: Doubles) -> list[Singles]:
        """Return for each kernel what reads K numbers from coefficients of its axes, (K, n)."""

    def moments(self) -> list[Doubles]:
        """Return zeros that `add_moments` adds to."""

    def add_moments(self, moments: Sequence[Doubles], weights_PV: Singles, times: int) -> None:
        """Add the second moments of functions; these are additive over subjects."""

    def strongest(self, moments: Sequence[Doubles], n_latents: int) -> tuple[Singles, Doubles]:
        """Return the strongest components of all functions: what reads them (K, P), and their weights (P, K)."""

    def paths(self, weights_PK: Doubles) -> list[Doubles]:
        """Return for each band the primal weights (K, L, F) of K functions."""


def band_functions(bands: Sequence[FeatureBand], index: LagIndex) -> BandFunctions:
    """Return exact functions of few training TRs, approximate ones of many."""
    return DualBands.of(bands, index) if len(index.tr_NL) <= MOST_DUAL_TRS else PrimalBands.of(bands, index)


@dataclass(frozen=True)
class DualBands:
    """Coordinates are the dual weights of each band at each training TR: P = B·N."""

    bands: Sequence[FeatureBand]
    index: LagIndex
    kernel_BNN: Doubles

    @classmethod
    def of(cls, bands: Sequence[FeatureBand], index: LagIndex) -> DualBands:
        """Compute the kernel of each band."""
        return cls(bands, index, np.stack([band.kernel(index) for band in bands]))

    @property
    def n_trs(self) -> int:
        return int(self.kernel_BNN.shape[1])

    def kernels(self, weight_CB: Doubles, blocks: Sequence[Block], drift: Detrend) -> Kernels:
        """Decompose the kernel of each prior. blocks: the blocks of training TRs."""
        return Kernels.of([np.tensordot(weight_B, self.kernel_BNN, axes=1) for weight_B in weight_CB], blocks, drift)

    def weights(self, kernels: Kernels, weight_CB: Doubles, groups: Sequence[PosteriorGroup], n_voxels: int) -> Singles:
        """Return the weights (P, V) of the sum of some groups' functions."""
        dual_BNV = np.zeros((len(self.bands), self.n_trs, n_voxels), np.float32)
        for group in groups:
            dual_NV = self._to_duals(kernels, group.kernel) @ group.size_nV
            for band in np.flatnonzero(weight_CB[group.kernel]):
                dual_BNV[band][:, group.voxels] += weight_CB[group.kernel, band].astype(np.float32) * dual_NV
        return dual_BNV.reshape(-1, n_voxels)

    def readings(self, reader_KP: Singles, kernels: Kernels, weight_CB: Doubles) -> list[Singles]:
        """Return for each kernel what reads K numbers from coefficients of its axes, (K, n)."""
        reader_BKN = reader_KP.reshape(len(reader_KP), len(self.bands), -1).transpose(1, 0, 2)
        return [
            np.tensordot(weight_B.astype(np.float32), reader_BKN, axes=1) @ self._to_duals(kernels, c)
            for c, weight_B in enumerate(weight_CB)
        ]

    def moments(self) -> list[Doubles]:
        """Return zeros: predictions times themselves (N, N), and dual weights times predictions (B, N, N)."""
        return [np.zeros((self.n_trs, self.n_trs)), np.zeros((len(self.bands), self.n_trs, self.n_trs))]

    def add_moments(self, moments: Sequence[Doubles], weights_PV: Singles, times: int) -> None:
        """Add the second moments of functions; these are additive over subjects."""
        dual_BNV = weights_PV.reshape(len(self.bands), self.n_trs, -1)
        predicted_NV = (self.kernel_BNN.astype(np.float32) @ dual_BNV).sum(axis=0)
        moments[0][:] += times * (predicted_NV @ predicted_NV.T)
        moments[1][:] += times * (dual_BNV @ predicted_NV.T)

    def strongest(self, moments: Sequence[Doubles], n_latents: int) -> tuple[Singles, Doubles]:
        """Return the strongest components of all functions: what reads them (K, P), and their weights (P, K)."""
        gram_NN, cross_BNN = moments
        axes_NK, power_K = strongest_axes(gram_NN, n_latents)
        # A latent has mean square 1 over training TRs: its head is the prediction's projection on it.
        reader_NK = (axes_NK / np.sqrt(self.n_trs)).astype(np.float32)
        reader_BNK = self.kernel_BNN.astype(np.float32) @ reader_NK
        dual_BNK = np.sqrt(self.n_trs) * (cross_BNN @ axes_NK) / power_K
        return reader_BNK.reshape(-1, n_latents).T, dual_BNK.reshape(-1, n_latents)

    def paths(self, weights_PK: Doubles) -> list[Doubles]:
        """Return for each band the primal weights (K, L, F) of K functions."""
        dual_BNK = weights_PK.reshape(len(self.bands), self.n_trs, -1)
        return [band.path(dual_NK, self.index) for band, dual_NK in zip(self.bands, dual_BNK, strict=True)]

    def _to_duals(self, kernels: Kernels, kernel: int) -> Singles:
        """Return (N, n): maps coefficients of a kernel's axes to dual weights."""
        assert isinstance(kernels.whitener, DenseWhitener)
        return np.asarray(kernels.whitener.matrix_nN.T @ kernels.axes[kernel], np.float32)


@dataclass(frozen=True)
class PrimalBands:
    """Coordinates are the leading axes of each band, side by side."""

    bands: Sequence[FeatureBand]
    parts: tuple[slice, ...]
    """Coordinates of each band."""
    maps: tuple[Doubles, ...]
    """Band -> (Q·F, p): filtered features to its axes."""
    z_NP: Singles
    """The axes at the training TRs."""

    @classmethod
    def of(cls, bands: Sequence[FeatureBand], index: LagIndex) -> PrimalBands:
        """Find the axes of each band on some training TRs, and compute them on all."""
        landmarks = index.rows(np.linspace(0, len(index.tr_NL) - 1, min(LANDMARK_TRS, len(index.tr_NL))).astype(int))
        maps = tuple(_leading_axes(band, landmarks) for band in bands)
        stops = np.cumsum([map_GP.shape[1] for map_GP in maps]).tolist()
        parts = tuple(slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True))
        z_NP = np.empty((len(index.tr_NL), stops[-1]), np.float32)
        for start in range(0, len(z_NP), TILE_TRS):
            tile = np.arange(start, min(start + TILE_TRS, len(z_NP)))
            for band, part, map_GP in zip(bands, parts, maps, strict=True):
                z_NP[tile, part] = band.filtered(index.rows(tile)).reshape(len(tile), -1) @ map_GP
        return cls(bands, parts, maps, z_NP)

    def kernels(self, weight_CB: Doubles, blocks: Sequence[Block], drift: Detrend) -> Kernels:
        """Decompose the kernel of each prior. blocks: the blocks of training TRs."""
        whitener = BlockWhitener.of(blocks, drift, self.z_NP)
        gram_PP = _gram(whitener.features_NP)
        values, axes = [], []
        for weight_B in weight_CB:
            size_P = self._size_P(weight_B)
            nonzero = np.flatnonzero(size_P)
            power_n, vectors_pn = np.linalg.eigh(
                size_P[nonzero, None] * gram_PP[np.ix_(nonzero, nonzero)] * size_P[nonzero]
            )
            large_n = power_n > LEAST_POWER * power_n[-1]
            axes_Pn = np.zeros((len(size_P), int(large_n.sum())), np.float32)
            axes_Pn[nonzero] = size_P[nonzero, None] * vectors_pn[:, large_n] / np.sqrt(power_n[large_n])
            values.append(power_n[large_n])
            axes.append(axes_Pn)
        return Kernels(whitener, tuple(values), tuple(axes), whitener.n_free)

    def weights(self, kernels: Kernels, weight_CB: Doubles, groups: Sequence[PosteriorGroup], n_voxels: int) -> Singles:
        """Return the weights (P, V) of the sum of some groups' functions."""
        weights_PV = np.zeros((self.z_NP.shape[1], n_voxels), np.float32)
        for group in groups:
            weights_PV[:, group.voxels] += self._to_weights(kernels, group.kernel) @ group.size_nV
        return weights_PV

    def readings(self, reader_KP: Singles, kernels: Kernels, weight_CB: Doubles) -> list[Singles]:
        """Return for each kernel what reads K numbers from coefficients of its axes, (K, n)."""
        return [reader_KP @ self._to_weights(kernels, c) for c in range(len(weight_CB))]

    def moments(self) -> list[Doubles]:
        """Return zeros: weights times themselves, (P, P)."""
        return [np.zeros((self.z_NP.shape[1], self.z_NP.shape[1]))]

    def add_moments(self, moments: Sequence[Doubles], weights_PV: Singles, times: int) -> None:
        """Add the second moments of functions; these are additive over subjects."""
        moments[0][:] += times * (weights_PV @ weights_PV.T)

    def strongest(self, moments: Sequence[Doubles], n_latents: int) -> tuple[Singles, Doubles]:
        """Return the strongest components of all functions: what reads them (K, P), and their weights (P, K).

        Predictions Z w have the Gram matrix Z M Zᵀ; with ZᵀZ = R Rᵀ its axes are those of Rᵀ M R.
        """
        (moment_PP,) = moments
        power_P, vectors_PP = np.linalg.eigh(_gram(self.z_NP))
        large_P = power_P > LEAST_POWER * power_P[-1]
        root_Pr = vectors_PP[:, large_P] * np.sqrt(power_P[large_P])
        axes_rK, power_K = strongest_axes(root_Pr.T @ moment_PP @ root_Pr, n_latents)
        n_trs = len(self.z_NP)
        reader_PK = root_Pr @ axes_rK / np.sqrt(n_trs)
        weights_PK = np.sqrt(n_trs) * (moment_PP @ (root_Pr @ axes_rK)) / power_K
        return reader_PK.T.astype(np.float32), weights_PK

    def paths(self, weights_PK: Doubles) -> list[Doubles]:
        """Return for each band the primal weights (K, L, F) of K functions."""
        paths = []
        for band, part, map_GP in zip(self.bands, self.parts, self.maps, strict=True):
            filters_QFK = (map_GP @ weights_PK[part]).reshape(band.axes_LQ.shape[1], band.x_TF.shape[1], -1)
            paths.append(np.einsum("lq,qfk->klf", band.axes_LQ, filters_QFK, optimize=True))
        return paths

    def _size_P(self, weight_B: Doubles) -> Doubles:
        """Return the root of the prior variance of each coordinate."""
        return np.concatenate(
            [np.full(p.stop - p.start, np.sqrt(w)) for p, w in zip(self.parts, weight_B, strict=True)]
        )

    def _to_weights(self, kernels: Kernels, kernel: int) -> Singles:
        """Return (P, n): maps coefficients of a kernel's axes to weights."""
        return np.asarray(kernels.axes[kernel] * kernels.values[kernel], np.float32)


def strongest_axes(gram_NN: Doubles, n_latents: int) -> tuple[Doubles, Doubles]:
    """Return the axes (N, K) of largest predictions and their squared size; zeros and ones if there are fewer."""
    power_N, axes_NN = np.linalg.eigh(gram_NN)
    rank = min(n_latents, int((power_N > 1e-10 * power_N[-1]).sum()))
    axes_NK, power_K = np.zeros((len(gram_NN), n_latents)), np.ones(n_latents)
    axes_NK[:, :rank] = fix_eigenvector_signs(axes_NN[:, ::-1][:, :rank])
    power_K[:rank] = power_N[::-1][:rank]
    return axes_NK, power_K


def _leading_axes(band: FeatureBand, landmarks: LagIndex) -> Doubles:
    """Return (Q·F, p): maps filtered features to the band's axes, whose inner products approximate its kernel."""
    x_MG = band.filtered(landmarks).reshape(len(landmarks.tr_NL), -1) / np.sqrt(band.scale)
    power_M, vectors_MM = np.linalg.eigh(x_MG @ x_MG.T)
    n_axes = min(BAND_AXES, int((power_M > LEAST_POWER * power_M[-1]).sum()))
    leading_Mp = fix_eigenvector_signs(vectors_MM[:, ::-1][:, :n_axes]) / np.sqrt(power_M[::-1][:n_axes])
    return np.asarray(x_MG.T @ leading_Mp / np.sqrt(band.scale))


def _gram(x_NP: Singles) -> Doubles:
    """Return the inner products of columns (P, P), summed in double precision a tile of TRs at a time."""
    gram_PP = np.zeros((x_NP.shape[1], x_NP.shape[1]))
    for start in range(0, len(x_NP), TILE_TRS):
        tile_NP = x_NP[start : start + TILE_TRS]
        gram_PP += tile_NP.T @ tile_NP
    return gram_PP
