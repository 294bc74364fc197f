"""How well all features of a film foresee responses that were held out, beside what they foresee at other times.

Ridge in its dual form, cross-validated over the TRs that are looked at; circular shifts of the film give chance. T TRs,
R of them that are looked at, F features, N series of the response.
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
    """By how many standard deviations of the shifts beyond any lag the film as it is foresees the response better.

    features: modality -> (T, F), each as important as another; a brain may follow by any lag that it may have.
    """
    kernel_TT = np.sum([_kernel(x_TF, tr_s) for x_TF in features.values()], axis=0)
    n_trs = len(kernel_TT)
    limit = reach_trs(n_trs, tr_s) + 1
    shifts = np.linspace(limit, n_trs - limit, N_SHIFTS).astype(int)
    own, *others = (_foresight(kernel_TT, response_RN, (rows - shift) % n_trs) for shift in (0, *shifts))
    return float((own - np.mean(others)) / max(1e-12, float(np.std(others))))


def _kernel(features_TF: Floats, tr_s: float) -> NDArray[np.float64]:
    """(T, T) with mean 1 on its diagonal: of the features' course at the lags that a brain may have."""
    first, last = expected_trs(tr_s)
    scaled_TF = features_TF / np.maximum(features_TF.std(axis=0, dtype=np.float64), 1e-9)
    fast_TF = highpass(scaled_TF, tr_s, FAST_S)
    seen_TF = np.mean([np.roll(fast_TF, lag, axis=0) for lag in range(first, last + 1)], axis=0)
    kernel_TT = seen_TF @ seen_TF.T
    return np.asarray(kernel_TT * len(kernel_TT) / max(1e-12, float(np.trace(kernel_TT))))


def _foresight(kernel_TT: Floats, response_RN: Floats, film_R: NDArray[np.intp]) -> float:
    """How held-out responses correlate with what a ridge on the other TRs foresees. film_R: the film's rows then."""
    kernel_RR = kernel_TT[np.ix_(film_R, film_R)]
    penalty = np.trace(kernel_RR) / len(film_R)
    foreseen_RN = np.zeros_like(response_RN)
    for held_out in np.array_split(np.arange(len(film_R)), N_FOLDS):
        kept = np.setdiff1d(np.arange(len(film_R)), held_out)
        dual_KN = np.linalg.solve(kernel_RR[np.ix_(kept, kept)] + penalty * np.eye(len(kept)), response_RN[kept])
        foreseen_RN[held_out] = kernel_RR[np.ix_(held_out, kept)] @ dual_KN
    length = np.linalg.norm(foreseen_RN) * np.linalg.norm(response_RN)
    return float((foreseen_RN * response_RN).sum() / max(1e-12, float(length)))
