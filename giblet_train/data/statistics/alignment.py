"""Measure at which lag one series follows another when neither their start nor their length is the same.

Lags are in TRs: at lag l, row t of the first series belongs to row t - l of the second. T and U TRs of the two, V
voxels, F features, N leading series of a response, L lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.statistics.lag import FAST_S, highpass, response_series

Floats = NDArray[np.floating[Any]]

LEAST_OVERLAP_TRS = 20
LEAST_OVERLAP = 0.4
"""Fraction of the shorter series that a lag must leave in common."""
PENALTY = 0.3
"""Ridge penalty relative to the mean variance of the features."""
LEAST_VARIANCE = 1e-9
MAD_TO_SD = 1.4826
PEAK_S = 12.0
"""Lags this near to the best one are not part of its null."""


@dataclass(frozen=True)
class Peak:
    """Best lag of two series."""

    lag_trs: int
    height: float
    """Standard deviations above the other lags; 0 if there are too few."""


NO_PEAK = Peak(0, 0.0)


@dataclass(frozen=True)
class Curve:
    """Score of each lag."""

    lags_L: NDArray[np.intp]
    """Lags that leave enough TRs in common."""
    scores_L: NDArray[np.float64]
    """Scores whose null does not depend on the lag."""

    def peak(self, tr_s: float) -> Peak:
        """Return the best lag, compared with the lags that are not near it."""
        if len(self.lags_L) < LEAST_OVERLAP_TRS:
            return NO_PEAK
        best = int(self.scores_L.argmax())
        near = max(2, round(PEAK_S / tr_s))
        others = self.scores_L[np.abs(self.lags_L - self.lags_L[best]) > near]
        if len(others) < LEAST_OVERLAP_TRS:
            return NO_PEAK
        centre = float(np.median(others))
        spread = max(MAD_TO_SD * float(np.median(np.abs(others - centre))), float(others.std()), 1e-12)
        return Peak(int(self.lags_L[best]), float(self.scores_L[best] - centre) / spread)


def agreement(first_TV: Floats, second_UV: Floats) -> Curve:
    """Correlate two responses voxel by voxel at each lag. Columns have mean 0."""
    size = len(first_TV) + len(second_UV)
    spectrum = (_spectrum(first_TV, size) * _spectrum(second_UV, size).conj()).mean(axis=1)
    return _curve(np.fft.irfft(spectrum, size), len(first_TV), len(second_UV), power=0.5)


def following(response_TN: Floats, stimulus_UF: Floats) -> Curve:
    """Score how well a response follows a stimulus at each lag: the mean squared correlation of all pairs of series."""
    size = len(response_TN) + len(stimulus_UF)
    response_K, stimulus_K = _spectrum(response_TN, size), _spectrum(stimulus_UF, size)
    total = np.zeros(size)
    for series_K in stimulus_K.T:
        total += (np.fft.irfft(response_K * series_K.conj()[:, None], size, axis=0) ** 2).sum(axis=1)
    return _curve(total / stimulus_UF.shape[1], len(response_TN), len(stimulus_UF), power=1.0)


def response_weights(stimulus_RF: Floats, response_RV: Floats) -> NDArray[np.float64]:
    """Return the ridge weights (F, V) with which responses follow a stimulus that was convolved with the HRF.

    They are 0 for a stimulus that never changes.
    """
    stimulus_RF = np.asarray(stimulus_RF, np.float64)
    gram_FF = stimulus_RF.T @ stimulus_RF
    if np.trace(gram_FF) <= LEAST_VARIANCE:
        return np.zeros((len(gram_FF), response_RV.shape[1]))
    gram_FF += PENALTY * np.trace(gram_FF) / len(gram_FF) * np.eye(len(gram_FF))
    return np.asarray(np.linalg.solve(gram_FF, stimulus_RF.T @ response_RV))


def leading_responses(response_TV: Floats, tr_s: float) -> NDArray[np.float64]:
    """Return (T, N): leading components of a response, scaled by their variance, of total variance 1."""
    series_TN = response_series(response_TV, [(0, len(response_TV))], tr_s)
    return np.asarray(series_TN / max(1e-12, float(np.sqrt((series_TN**2).sum() / len(series_TN)))))


def comparable(values_TV: Floats, tr_s: float) -> NDArray[np.float32]:
    """Return responses without slow drifts, each voxel with variance 1; constant ones are 0."""
    fast_TV = highpass(values_TV, tr_s, FAST_S)
    sd_V = fast_TV.std(axis=0)
    return np.asarray(np.divide(fast_TV, sd_V, out=np.zeros_like(fast_TV), where=sd_V > 1e-9), np.float32)


def _spectrum(series_TV: Floats, size: int) -> NDArray[np.complex128]:
    return np.asarray(np.fft.rfft(series_TV, size, axis=0))


def _curve(circular: Floats, n_first: int, n_second: int, power: float) -> Curve:
    """Return the lags with enough in common, each score divided by the overlap to a power that makes its null flat."""
    lags_L = np.arange(-(n_second - 1), n_first)
    overlap_L = np.minimum(n_first, lags_L + n_second) - np.maximum(0, lags_L)
    least = max(min(LEAST_OVERLAP_TRS, n_first, n_second), LEAST_OVERLAP * min(n_first, n_second))
    used = overlap_L >= least
    scores_L = circular[lags_L[used]] / overlap_L[used] ** power
    return Curve(lags_L[used], np.asarray(scores_L, np.float64))
