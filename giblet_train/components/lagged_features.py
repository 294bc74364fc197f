"""Delayed features of training TRs under a prior over lags, without building all lags at once.

N training TRs, n of them in a tile, L lags (0 first), F features, Q axes of a prior, G = Q·F, K latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.components.batches import Batch

Doubles = NDArray[np.float64]
EIGENVALUE_FLOOR = 1e-6
LEAST_VARIANCE = 1e-12
TILE_NUMBERS = 1 << 20
"""Delayed features that are built at once: 8 MiB."""


@dataclass(frozen=True)
class LagIndex:
    """Which TR each scored training TR sees at each lag."""

    tr_NL: NDArray[np.intp]
    seen_NL: NDArray[np.bool_]
    """False where nothing is seen: before a scan, or beyond a gap."""

    @classmethod
    def of(cls, batches: Sequence[Batch], n_lags: int) -> LagIndex:
        """Build it from batches of one window each: whole blocks of the split."""
        trs, masks = [], []
        for batch in batches:
            position_N = np.flatnonzero(batch.scored_BW[0])
            lagged_NL = position_N[:, None] - np.arange(n_lags)
            inside_NL = lagged_NL >= 0
            lagged_NL = np.where(inside_NL, lagged_NL, 0)
            trs.append(batch.index_BW[0][lagged_NL])
            masks.append(batch.seen_BW[0][lagged_NL] & inside_NL)
        return cls(np.concatenate(trs), np.concatenate(masks))

    def rows(self, index_N: NDArray[np.intp]) -> LagIndex:
        """Return some of the training TRs."""
        return LagIndex(self.tr_NL[index_N], self.seen_NL[index_N])


@dataclass(frozen=True)
class FeatureBand:
    """One feature space with one prior over lags: prior = axes · axesᵀ."""

    space: str
    x_TF: NDArray[np.floating]
    axes_LQ: Doubles
    scale: float
    """Divides the kernel, so that its mean diagonal over training TRs is 1."""

    @classmethod
    def of(cls, space: str, x_TF: NDArray[np.floating], prior_LL: Doubles, index: LagIndex) -> FeatureBand:
        """Fit the scale on the training TRs."""
        values_L, vectors_LL = np.linalg.eigh(prior_LL)
        large_L = values_L > EIGENVALUE_FLOOR * values_L[-1]
        band = cls(space, x_TF, vectors_LL[:, large_L] * np.sqrt(values_L[large_L]), 1.0)
        power = float(np.square(band.filtered(index)).sum()) / len(index.tr_NL)
        return cls(space, x_TF, band.axes_LQ, max(power, LEAST_VARIANCE))

    def filtered(self, index: LagIndex) -> Doubles:
        """Return the features filtered by each axis of the prior, (N, Q, F)."""
        n_lags, n_axes = self.axes_LQ.shape
        n_features = self.x_TF.shape[1]
        filtered_NQF = np.empty((len(index.tr_NL), n_axes, n_features))
        tile_trs = max(1, TILE_NUMBERS // (n_lags * n_features))
        for start in range(0, len(filtered_NQF), tile_trs):
            tile = slice(start, start + tile_trs)
            lagged_nLF = self.x_TF[index.tr_NL[tile]].astype(np.float64)
            lagged_nLF[~index.seen_NL[tile]] = 0.0
            np.matmul(self.axes_LQ.T, lagged_nLF, out=filtered_NQF[tile])
        return filtered_NQF

    def kernel(self, index: LagIndex) -> Doubles:
        """Return the kernel (N, N) of the training TRs."""
        x_NG = self.filtered(index).reshape(len(index.tr_NL), -1)
        return np.asarray(x_NG @ x_NG.T / self.scale)

    def path(self, dual_NK: Doubles, index: LagIndex) -> Doubles:
        """Return the primal weights (K, L, F) of K functions given by dual weights."""
        filters_KQF = np.tensordot(dual_NK, self.filtered(index), axes=(0, 0))
        return np.asarray(self.axes_LQ @ filters_KQF / self.scale)


def bands_of(
    spaces: Mapping[str, NDArray[np.floating]], priors_LL: Sequence[Doubles], index: LagIndex
) -> list[FeatureBand]:
    """Return a band for each prior and feature space, in this order."""
    return [FeatureBand.of(space, x_TF, prior_LL, index) for prior_LL in priors_LL for space, x_TF in spaces.items()]
