"""Measure how well all film features predict held-out responses, compared with time-shifted controls.

Ridge in dual form, cross-validated over the given TRs; circular shifts of the film give the null. T TRs, R given TRs,
F features, N series of the response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.statistics.lag import FAST_S, highpass, reach_trs
from giblet_train.diagnosis.alignment.film import expected_trs

N_SHIFTS = 40
N_FOLDS = 5

Floats = NDArray[np.floating[Any]]


def prediction_z_score(
    features: Mapping[str, Floats], response_RN: Floats, rows: NDArray[np.intp], tr_s: float
) -> float:
    """Return by how many sd of shifted controls the unshifted film predicts better.

    Args:
        features: Modality -> (T, F); modalities have equal weight and any plausible lag is allowed.
    """
    kernel_TT = np.sum([_kernel(x_TF, tr_s) for x_TF in features.values()], axis=0)
    n_trs = len(kernel_TT)
    limit = reach_trs(n_trs, tr_s) + 1
    shifts = np.linspace(limit, n_trs - limit, N_SHIFTS).astype(int)
    own, *others = (_prediction_r(kernel_TT, response_RN, (rows - shift) % n_trs) for shift in (0, *shifts))
    return float((own - np.mean(others)) / max(1e-12, float(np.std(others))))


def _kernel(features_TF: Floats, tr_s: float) -> NDArray[np.float64]:
    """Return the (T, T) kernel, mean diagonal 1, of features averaged over the lags that a brain may have."""
    first, last = expected_trs(tr_s)
    scaled_TF = features_TF / np.maximum(features_TF.std(axis=0, dtype=np.float64), 1e-9)
    fast_TF = highpass(scaled_TF, tr_s, FAST_S)
    seen_TF = np.mean([np.roll(fast_TF, lag, axis=0) for lag in range(first, last + 1)], axis=0)
    kernel_TT = seen_TF @ seen_TF.T
    return np.asarray(kernel_TT * len(kernel_TT) / max(1e-12, float(np.trace(kernel_TT))))


def _prediction_r(kernel_TT: Floats, response_RN: Floats, film_R: NDArray[np.intp]) -> float:
    """Return the correlation of held-out responses with ridge predictions.

    Args:
        film_R: Film row shown at each response TR.
    """
    kernel_RR = kernel_TT[np.ix_(film_R, film_R)]
    penalty = np.trace(kernel_RR) / len(film_R)
    foreseen_RN = np.zeros_like(response_RN)
    for held_out in np.array_split(np.arange(len(film_R)), N_FOLDS):
        training = np.setdiff1d(np.arange(len(film_R)), held_out)
        dual_KN = np.linalg.solve(
            kernel_RR[np.ix_(training, training)] + penalty * np.eye(len(training)), response_RN[training]
        )
        foreseen_RN[held_out] = kernel_RR[np.ix_(held_out, training)] @ dual_KN
    length = np.linalg.norm(foreseen_RN) * np.linalg.norm(response_RN)
    return float((foreseen_RN * response_RN).sum() / max(1e-12, float(length)))
