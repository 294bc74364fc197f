"""Baselines: ridge regression on delayed features, per subject or pooled over subjects.

T TRs, N training TRs, F features, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.evaluation.metrics import pearson

Floats = NDArray[np.float32]
Array = NDArray[np.floating[Any]]
DELAYS_TRS = tuple(range(1, 9))
ALPHAS = tuple(float(a) for a in np.logspace(0, 5, 11))


@dataclass(frozen=True)
class DualRidge:
    """Ridge in the space of TRs (Saunders et al. 1998): one eigendecomposition serves every alpha and every voxel."""

    values_N: NDArray[np.float64]
    vectors_NN: NDArray[np.float64]

    @classmethod
    def of(cls, kernel_NN: NDArray[np.float64]) -> DualRidge:
        """Decompose the kernel of the training TRs."""
        values_N, vectors_NN = np.linalg.eigh(kernel_NN)
        return cls(np.maximum(values_N, 0.0), vectors_NN)

    def dual(self, target_NV: Array, alpha: float) -> NDArray[np.float64]:
        """Return the dual weights (N, V) of targets."""
        return np.asarray(self.vectors_NN @ ((self.vectors_NN.T @ target_NV) / (self.values_N + alpha)[:, None]))

    def predict(self, kernel_TN: NDArray[np.float64], target_NV: Array, alpha: float) -> Floats:
        """Predict responses (T, V) at TRs from their inner products with the training TRs."""
        predicted: Floats = (kernel_TN @ self.dual(target_NV, alpha)).astype(np.float32)
        return predicted


@dataclass(frozen=True)
class RidgeFit:
    """Ridge with alpha chosen by correlation on the validation TRs."""

    kernel_TT: NDArray[np.float64]
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    solver: DualRidge

    def restricted_to(self, present_T: NDArray[np.bool_]) -> RidgeFit:
        """Return the same ridge for a subject who has only some rows; without validation rows training rows choose."""
        train, validation = self.train[present_T[self.train]], self.validation[present_T[self.validation]]
        solver = DualRidge.of(self.kernel_TT[np.ix_(train, train)])
        return RidgeFit(self.kernel_TT, train, validation if len(validation) else train, solver)

    def predict(self, bold_TV: Floats, rows: NDArray[np.intp], together_V: NDArray[np.bool_] | None = None) -> Floats:
        """Predict responses (len(rows), V) at `rows`; only training and validation rows of `bold_TV` are read.

        together_V: voxels whose mean correlation selects one alpha for all, which is better than one per voxel if the
        validation block is short. None: select alpha per voxel.
        """
        target_NV = bold_TV[self.train]
        chooser_TN = self.kernel_TT[np.ix_(self.validation, self.train)]
        rows_TN = self.kernel_TT[np.ix_(rows, self.train)]
        best_r_V = np.full(bold_TV.shape[1], -np.inf)
        best_TV = np.zeros((len(rows), bold_TV.shape[1]), np.float32)
        for alpha in ALPHAS:
            r_V = pearson(self.solver.predict(chooser_TN, target_NV, alpha), bold_TV[self.validation])
            if together_V is not None:
                r_V = np.full_like(r_V, r_V[together_V].mean())
            better_V = r_V > best_r_V
            best_r_V[better_V] = r_V[better_V]
            best_TV[:, better_V] = self.solver.predict(rows_TN, target_NV[:, better_V], alpha)
        return best_TV


def ridge_of(
    features: Mapping[str, Floats],
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    scan_lengths_trs: tuple[int, ...],
) -> RidgeFit:
    """Fit ridge on all modalities at the delays of a haemodynamic response; each scan is padded with zeros."""
    stacked_TF = np.concatenate([x / np.sqrt(x.shape[1]) for x in features.values()], axis=1).astype(np.float64)
    kernel_TT = np.zeros((len(stacked_TF), len(stacked_TF)))
    for delay in DELAYS_TRS:
        delayed = delayed_by(stacked_TF, delay, scan_lengths_trs)
        delayed -= delayed[train].mean(axis=0)
        kernel_TT += delayed @ delayed.T
    return RidgeFit(kernel_TT, train, validation, DualRidge.of(kernel_TT[np.ix_(train, train)]))


def delayed_by(x_TF: NDArray[np.float64], delay_trs: int, scan_lengths_trs: tuple[int, ...]) -> NDArray[np.float64]:
    """Delay the series by `delay_trs`, with zeros at the start of each scan."""
    delayed_TF = np.zeros_like(x_TF)
    start = 0
    for length in scan_lengths_trs:
        delayed_TF[start + delay_trs : start + length] = x_TF[start : start + length - delay_trs]
        start += length
    return delayed_TF
