"""Means and standard deviations from training TRs only, and what they do to features and to BOLD.

T TRs, R training TRs, F features, V voxels, C scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.rows import Rows

CHUNK_TRS = 8
MIN_SCAN_TRS = 10
MASK_PERCENTILE = 10.0
MASK_SHARE = 0.5
LEAST_SHARE = 0.1

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ColumnScale:
    """Mean and standard deviation (ddof 0) of each feature over the training TRs.

    No sd is below LEAST_SHARE of the median sd: a feature that hardly moves in training (a band of a silent passage,
    rounding in an embedding) would otherwise weigh as much as all others, and be hundreds of sd away elsewhere.
    """

    mean_F: NDArray[np.float32]
    sd_F: NDArray[np.float32]
    """0 for a constant feature."""

    def apply(self, features_TF: Floats) -> NDArray[np.float32]:
        """Scale to mean 0 and sd 1 (or less) over the fitted TRs, (T, F) float32; constant features become 0."""
        scaled_TF = features_TF.astype(np.float32) - self.mean_F
        scaled_TF *= _inverse(self.sd_F)
        return scaled_TF


def fit_columns(features_TF: Floats, train: NDArray[np.intp]) -> ColumnScale:
    """Fit mean and sd of each feature to the rows `train`."""
    rows_RF = features_TF[train].astype(np.float64)
    sd_F = _sd(rows_RF.std(axis=0), rows_RF.mean(axis=0))
    varies_F = sd_F > 0
    if varies_F.any():
        sd_F[varies_F] = np.maximum(sd_F[varies_F], LEAST_SHARE * np.median(sd_F[varies_F]))
    return ColumnScale(rows_RF.mean(axis=0).astype(np.float32), sd_F)


@dataclass(frozen=True)
class ScanMoments:
    """Sums over one subject's training TRs."""

    n_C: NDArray[np.intp]
    """Training TRs per scan."""
    sum_CV: NDArray[np.float64]
    """Sum of values per scan."""
    square_CV: NDArray[np.float64]
    """Sum of squares per scan."""
    low_V: NDArray[np.float32]
    """Smallest value."""
    high_V: NDArray[np.float32]
    """Largest value."""

    def sd_V(self) -> NDArray[np.float64]:
        """Return the standard deviation over all training TRs together, on which the mask's vote is based."""
        n = self.n_C.sum()
        mean_V = self.sum_CV.sum(axis=0) / n
        spread_V = np.sqrt(np.maximum(self.square_CV.sum(axis=0) / n - mean_V**2, 0.0))
        return _sd(spread_V, mean_V).astype(np.float64)

    def scale(self) -> BoldScale:
        """Return mean and sd of each scan; those of all scans for one with fewer than MIN_SCAN_TRS training TRs."""
        n_C, sum_CV, square_CV = self.n_C.copy(), self.sum_CV.copy(), self.square_CV.copy()
        sparse_C = n_C < MIN_SCAN_TRS
        n_C[sparse_C] = self.n_C.sum()
        sum_CV[sparse_C] = self.sum_CV.sum(axis=0)
        square_CV[sparse_C] = self.square_CV.sum(axis=0)
        mean_CV = sum_CV / n_C[:, None]
        spread_CV = np.sqrt(np.maximum(square_CV / n_C[:, None] - mean_CV**2, 0.0))
        return BoldScale(mean_CV.astype(np.float32), _sd(spread_CV, mean_CV), tuple(np.flatnonzero(sparse_C).tolist()))


@dataclass(frozen=True)
class BoldScale:
    """Mean and standard deviation (ddof 0) of each voxel in each scan of one subject, over training TRs."""

    mean_CV: NDArray[np.float32]
    sd_CV: NDArray[np.float32]
    pooled_scans: tuple[int, ...] = ()
    """Scans with too few training TRs, which use the parameters of all training TRs."""

    def apply(self, bold_TV: Rows, scan_lengths_trs: Sequence[int], voxels: NDArray[np.intp]) -> NDArray[np.float32]:
        """Z-score, (T, len(voxels)) float32; a voxel that is constant in a scan's training TRs is 0 there."""
        scaled_TV = np.empty((len(bold_TV), len(voxels)), np.float32)
        start = 0
        for scan, length in enumerate(scan_lengths_trs):
            mean_V, inverse_V = self.mean_CV[scan, voxels], _inverse(self.sd_CV[scan, voxels])
            for row in range(start, start + length, CHUNK_TRS):
                rows = slice(row, min(row + CHUNK_TRS, start + length))
                scaled_TV[rows] = bold_TV[rows][:, voxels]
                scaled_TV[rows] -= mean_V
                scaled_TV[rows] *= inverse_V
            start += length
        return scaled_TV


def scan_moments(bold_TV: Rows, train: NDArray[np.intp], scan_lengths_trs: Sequence[int]) -> ScanMoments:
    """Sum the training rows and their squares per scan in float64, a few rows at a time."""
    n_scans, n_voxels = len(scan_lengths_trs), bold_TV.shape[1]
    moments = ScanMoments(
        n_C=np.zeros(n_scans, np.intp),
        sum_CV=np.zeros((n_scans, n_voxels)),
        square_CV=np.zeros((n_scans, n_voxels)),
        low_V=np.full(n_voxels, np.inf, np.float32),
        high_V=np.full(n_voxels, -np.inf, np.float32),
    )
    edges = np.cumsum([0, *scan_lengths_trs])
    for scan in range(n_scans):
        rows_R = train[(train >= edges[scan]) & (train < edges[scan + 1])]
        moments.n_C[scan] = len(rows_R)
        for first in range(0, len(rows_R), CHUNK_TRS):
            # Out of half precision first: extremes of float16 are slow to find.
            stored_RV = bold_TV[rows_R[first : first + CHUNK_TRS]].astype(np.float32)
            np.minimum(moments.low_V, stored_RV.min(axis=0), out=moments.low_V)
            np.maximum(moments.high_V, stored_RV.max(axis=0), out=moments.high_V)
            values_RV = stored_RV.astype(np.float64)
            moments.sum_CV[scan] += values_RV.sum(axis=0)
            moments.square_CV[scan] += np.einsum("rv,rv->v", values_RV, values_RV)
    return moments


def vote_mask(sd_SV: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return (V,): voxels whose sd exceeds the 10th percentile of non-zero sds in at least half of the subjects."""
    votes_V = np.zeros(len(sd_SV[0]), np.intp)
    for sd_V in sd_SV:
        varying = sd_V[sd_V > 0]
        if varying.size:
            votes_V += sd_V > np.percentile(varying, MASK_PERCENTILE)
    return votes_V >= MASK_SHARE * len(sd_SV)


def _sd(spread: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the spread as float32; rounding error around the mean becomes exactly 0."""
    return np.where(spread > 1e-7 * np.abs(mean), spread, 0.0).astype(np.float32)


def _inverse(sd: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(np.float32(1.0), sd, out=np.zeros_like(sd), where=sd > 0)
