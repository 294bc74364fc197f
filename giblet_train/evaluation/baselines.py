"""Baselines: ridge regression on delayed features, per subject or pooled over subjects.

T TRs, N training TRs, F features, V voxels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from giblet_train.evaluation.metrics import pearson

Floats = NDArray[np.float32]
Array = NDArray[np.floating[Any]]
Series = TypeVar("Series", NDArray[np.float32], NDArray[np.float64])
DELAYS_TRS = tuple(range(1, 9))
MOST_DUAL_TRS = 4000
LANDMARK_TRS = 3000
MOST_COMPONENTS = 2000
LEAST_POWER = 1e-7
"""Power of a component relative to the strongest one, below which it is dropped."""
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


class AlphaByValidation(ABC):
    """Ridge whose alpha is chosen by correlation on the validation TRs; then it is fitted on these TRs as well."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]

    @abstractmethod
    def coefficients(self, target_NV: Array) -> Array:
        """Return the coefficients of targets on the axes of the regression."""

    @abstractmethod
    def predicted(self, rows: NDArray[np.intp], coefficients: Array, alpha: float) -> Floats:
        """Return the predicted responses (len(rows), V) at `rows`."""

    @abstractmethod
    def fitted_on(self, train: NDArray[np.intp], validation: NDArray[np.intp]) -> Self:
        """Return the same ridge with other training and validation rows."""

    def restricted_to(self, present_T: NDArray[np.bool_]) -> Self:
        """Return the same ridge for a subject who has only some rows; without validation rows training rows choose."""
        train, validation = self.train[present_T[self.train]], self.validation[present_T[self.validation]]
        return self.fitted_on(train, validation if len(validation) else train)

    def predict(self, bold_TV: Floats, rows: NDArray[np.intp], together_V: NDArray[np.bool_] | None = None) -> Floats:
        """Predict responses (len(rows), V) at `rows`; only training and validation rows of `bold_TV` are read.

        together_V: voxels whose mean correlation selects one alpha for all, which is better than one per voxel if the
        validation block is short. None: select alpha per voxel.
        """
        coefficients = self.coefficients(bold_TV[self.train])
        validation_TV = bold_TV[self.validation]
        best_r_V = np.full(bold_TV.shape[1], -np.inf)
        best_alpha_V = np.zeros(bold_TV.shape[1])
        for alpha in ALPHAS:
            r_V = pearson(self.predicted(self.validation, coefficients, alpha), validation_TV)
            if together_V is not None:
                r_V = np.full_like(r_V, r_V[together_V].mean())
            better_V = r_V > best_r_V
            best_r_V[better_V], best_alpha_V[better_V] = r_V[better_V], alpha
        coefficients = self._refit.coefficients(bold_TV[self._refit.train])
        best_TV = np.zeros((len(rows), bold_TV.shape[1]), np.float32)
        for alpha in np.unique(best_alpha_V[best_alpha_V > 0]):
            here_V = best_alpha_V == alpha
            best_TV[:, here_V] = self._refit.predicted(rows, coefficients[:, here_V], float(alpha))
        return best_TV

    @cached_property
    def _refit(self) -> Self:
        return self.fitted_on(np.union1d(self.train, self.validation), self.validation)


@dataclass(frozen=True)
class RidgeFit(AlphaByValidation):
    """Exact, in the space of TRs; its cost grows with N³."""

    kernel_TT: NDArray[np.float64]
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    solver: DualRidge

    def coefficients(self, target_NV: Array) -> Array:
        """Return the coefficients of targets on the axes of the regression."""
        return np.asarray(self.solver.vectors_NN.T @ target_NV)

    def predicted(self, rows: NDArray[np.intp], coefficients: Array, alpha: float) -> Floats:
        """Return the predicted responses (len(rows), V) at `rows`."""
        dual_NV = self.solver.vectors_NN @ (coefficients / (self.solver.values_N + alpha)[:, None])
        return np.asarray(self.kernel_TT[np.ix_(rows, self.train)] @ dual_NV, np.float32)

    @classmethod
    def of(cls, kernel_TT: NDArray[np.float64], train: NDArray[np.intp], validation: NDArray[np.intp]) -> Self:
        """Decompose the kernel of the training TRs."""
        return cls(kernel_TT, train, validation, DualRidge.of(kernel_TT[np.ix_(train, train)]))

    def fitted_on(self, train: NDArray[np.intp], validation: NDArray[np.intp]) -> Self:
        """Return the same ridge with other training and validation rows."""
        return type(self).of(self.kernel_TT, train, validation)


@dataclass(frozen=True)
class PrimalRidgeFit(AlphaByValidation):
    """Ridge on the leading components of the delayed features; its cost grows with N."""

    x_TP: Floats
    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    values_P: NDArray[np.float64]
    vectors_PP: NDArray[np.float64]

    @classmethod
    def of(cls, x_TP: Floats, train: NDArray[np.intp], validation: NDArray[np.intp]) -> Self:
        """Decompose the inner products of the features over training TRs."""
        values_P, vectors_PP = np.linalg.eigh((x_TP[train].T @ x_TP[train]).astype(np.float64))
        return cls(x_TP, train, validation, np.maximum(values_P, 0.0), vectors_PP)

    def coefficients(self, target_NV: Array) -> Array:
        """Return the coefficients of targets on the axes of the regression."""
        return np.asarray(self.vectors_PP.T @ (self.x_TP[self.train].T @ target_NV))

    def predicted(self, rows: NDArray[np.intp], coefficients: Array, alpha: float) -> Floats:
        """Return the predicted responses (len(rows), V) at `rows`."""
        weights_PV = self.vectors_PP @ (coefficients / (self.values_P + alpha)[:, None])
        return np.asarray(self.x_TP[rows] @ weights_PV, np.float32)

    def fitted_on(self, train: NDArray[np.intp], validation: NDArray[np.intp]) -> Self:
        """Return the same ridge with other training and validation rows."""
        return type(self).of(self.x_TP, train, validation)


def ridge_of(
    features: Mapping[str, Floats],
    train: NDArray[np.intp],
    validation: NDArray[np.intp],
    scan_lengths_trs: tuple[int, ...],
) -> RidgeFit | PrimalRidgeFit:
    """Fit ridge on all modalities at the delays of a haemodynamic response; each scan is padded with zeros.

    Above MOST_DUAL_TRS training TRs it keeps the leading MOST_COMPONENTS components of the delayed features.
    """
    stacked_TF = np.concatenate([x / np.sqrt(x.shape[1]) for x in features.values()], axis=1)
    if len(train) > MOST_DUAL_TRS:
        x_TP = _components(stacked_TF, train, np.union1d(train, validation), scan_lengths_trs)
        return PrimalRidgeFit.of(x_TP, train, validation)
    kernel_TT = np.zeros((len(stacked_TF), len(stacked_TF)))
    for delay in DELAYS_TRS:
        delayed = delayed_by(stacked_TF.astype(np.float64), delay, scan_lengths_trs)
        delayed -= delayed[train].mean(axis=0)
        kernel_TT += delayed @ delayed.T
    return RidgeFit.of(kernel_TT, train, validation)


def _components(
    x_TF: Floats, train: NDArray[np.intp], rows: NDArray[np.intp], scan_lengths_trs: tuple[int, ...]
) -> Floats:
    """Return the leading components (T, P) of the delayed features, found on at most LANDMARK_TRS of `rows`.

    train: rows whose mean is subtracted.
    """
    landmarks = rows[np.linspace(0, len(rows) - 1, min(LANDMARK_TRS, len(rows))).astype(int)]
    delayed = [_centred(x_TF, delay, train, scan_lengths_trs) for delay in DELAYS_TRS]
    gram_MM = np.sum([x[landmarks].astype(np.float64) @ x[landmarks].T for x in delayed], axis=0)
    power_M, vectors_MM = np.linalg.eigh(gram_MM)
    large = np.flatnonzero(power_M > LEAST_POWER * power_M[-1])[-MOST_COMPONENTS:]
    reader_MP = (vectors_MM[:, large] / np.sqrt(power_M[large])).astype(np.float32)
    return np.asarray(np.sum([x @ (x[landmarks].T @ reader_MP) for x in delayed], axis=0), np.float32)


def _centred(x_TF: Floats, delay: int, train: NDArray[np.intp], scan_lengths_trs: tuple[int, ...]) -> Floats:
    delayed_TF = delayed_by(x_TF, delay, scan_lengths_trs)
    return np.asarray(delayed_TF - delayed_TF[train].mean(axis=0), np.float32)


def delayed_by(x_TF: Series, delay_trs: int, scan_lengths_trs: tuple[int, ...]) -> Series:
    """Delay the series by `delay_trs`, with zeros at the start of each scan."""
    delayed_TF = np.zeros_like(x_TF)
    start = 0
    for length in scan_lengths_trs:
        delayed_TF[start + delay_trs : start + length] = x_TF[start : start + length - delay_trs]
        start += length
    return delayed_TF
