"""Banded ridge as an expert would fit it with himalaya: the baseline of the field.

Features are filtered by the canonical HRF and by the HRF with a memory of MEMORY_S, one band per modality and filter.
Bands are weighted by random search in INNER_FOLDS contiguous folds of the training and validation TRs, with one penalty
for all voxels. Rows are whitened for noise that is half white and half AR(1). The mean of the subjects and each
subject's deviation from it are fitted by themselves. T TRs, N training and validation TRs, B bands, V voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.statistics.hrf import convolve_causal, glover

Floats = NDArray[np.float32]
MEMORY_S, NOISE_S = 15.0, 6.7
ALPHAS = np.logspace(-1, 6, 15)
INNER_FOLDS, N_BANDS_TRIED = 5, 20


@dataclass(frozen=True)
class ExpertRidge:
    """Predictions, and what was selected."""

    predicted: dict[str, Floats]
    """Subject -> responses (T, V) over the test TRs."""
    alpha_at_edge: bool
    """True if the penalty of the mean response lies at the edge of ALPHAS."""


def predict(data: PreparedSplit) -> ExpertRidge:
    """Fit on training and validation TRs and predict the test TRs of every subject.

    Inner folds select the penalties, so no TRs need to be held out for that.
    """
    split = data.split.joined
    kernel_BTT = np.stack([x_TF @ x_TF.T for x_TF in _bands(data)])
    whitener_NN = _whitener(split.train, data.study.tr_s)
    inside_BNN = whitener_NN @ kernel_BTT[:, split.train][:, :, split.train] @ whitener_NN.T
    across_BTN = kernel_BTT[:, split.test][:, :, split.train] @ whitener_NN.T
    mean_TV = np.mean([data.bold[s][split.train] for s in data.subjects], axis=0)
    group_TV, alpha = _fit(inside_BNN, across_BTN, whitener_NN @ mean_TV)
    predicted = {}
    for subject in data.subjects:
        own_TV, _ = _fit(inside_BNN, across_BTN, whitener_NN @ (data.bold[subject][split.train] - mean_TV))
        predicted[subject] = data.drift.apply(group_TV + own_TV, split.test_blocks)
    return ExpertRidge(predicted, alpha in (ALPHAS[0], ALPHAS[-1]))


def _fit(inside_BNN: NDArray[Any], across_BTN: NDArray[Any], target_NV: NDArray[Any]) -> tuple[Floats, float]:
    """Return predictions (T, V) and the penalty."""
    model = MultipleKernelRidgeCV(
        kernels="precomputed",
        solver="random_search",
        solver_params={
            "n_iter": N_BANDS_TRIED,
            "alphas": ALPHAS,
            "progress_bar": False,
            "local_alpha": False,
            "n_targets_batch": 1024,
        },
        cv=KFold(INNER_FOLDS),
        random_state=0,
    )
    model.fit(inside_BNN.astype(np.float32), target_NV.astype(np.float32))
    return np.asarray(model.predict(across_BTN.astype(np.float32)), np.float32), float(np.ravel(model.best_alphas_)[0])


def _bands(data: PreparedSplit) -> list[NDArray[np.float64]]:
    """Return the filtered features (T, F) of each band, of mean square 1 over training TRs."""
    tr_s, train = data.study.tr_s, data.split.train
    response_L = glover(tr_s)
    remembered_L = np.convolve(response_L, np.exp(-np.arange(0.0, 4 * MEMORY_S, tr_s) / MEMORY_S))
    edges = np.cumsum(data.study.scan_lengths_trs)[:-1]
    bands = []
    for kernel_L in (response_L, remembered_L):
        for x_TF in data.inputs.values():
            scans = np.split(x_TF.astype(np.float64), edges)
            filtered_TF = np.concatenate([convolve_causal(scan, kernel_L) for scan in scans])
            filtered_TF -= filtered_TF[train].mean(axis=0)
            bands.append(filtered_TF / np.sqrt((filtered_TF[train] ** 2).sum(axis=1).mean()))
    return bands


def _whitener(train: NDArray[np.intp], tr_s: float) -> NDArray[np.float64]:
    """Return (N, N): whitens noise that is half white and half AR(1); rows of different blocks count as far apart."""
    apart_NN = np.abs(np.subtract.outer(train, train)) * tr_s
    return np.asarray(np.linalg.inv(np.linalg.cholesky(0.5 * np.exp(-apart_NN / NOISE_S) + 0.5 * np.eye(len(train)))))
