"""Baseline of the reconstruction: ridge regression from measured brains to the film's features.

A TR's features are decoded from the responsive voxels of all subjects at that TR and the LATER_TRS that follow, within
the same block of the split. T TRs, N training TRs, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from giblet_train.components.head_sharding import HeadSharding
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.baselines import MOST_DUAL_TRS, DualRidge

Floats = NDArray[np.float32]
LATER_TRS = 8
ALPHAS = tuple(float(a) for a in np.logspace(-3, 3, 13))
"""Penalties relative to the mean diagonal of the kernel."""


def ridge_decoded(data: PreparedSplit, shards: HeadSharding) -> dict[str, Floats]:
    """Return modality -> decoded features of the test TRs (T, F); codes are left out.

    The penalty of each modality is the one with the smallest error on the validation TRs. Empty above MOST_DUAL_TRS
    training TRs, where the kernel would be too large. Collective over ranks that share subjects.
    """
    split = data.split
    modalities = [m for m in data.targets if m not in data.unigram]
    if len(split.train) > MOST_DUAL_TRS or not modalities:
        return {}
    rows = np.concatenate([split.train, split.validation, split.test])
    kernel_RR = shards.total(_kernel(data, shards, rows))
    n_train, n_chosen = len(split.train), len(split.train) + len(split.validation)
    kernel_RR /= max(kernel_RR[:n_train, :n_train].diagonal().mean(), np.finfo(float).tiny)
    solver = DualRidge.of(kernel_RR[:n_train, :n_train])
    decoded = {}
    for modality in modalities:
        target_TF, weight_F = data.targets[modality], data.target_weights[modality]
        errors = []
        for alpha in ALPHAS:
            guess_TF = solver.predict(kernel_RR[n_train:n_chosen, :n_train], target_TF[split.train], alpha * n_train)
            errors.append(float(((guess_TF - target_TF[split.validation]) ** 2 @ weight_F).sum()))
        best = ALPHAS[int(np.argmin(errors))] * n_train
        decoded[modality] = solver.predict(kernel_RR[n_chosen:, :n_train], target_TF[split.train], best)
    return decoded


def _kernel(data: PreparedSplit, shards: HeadSharding, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the inner products of later responses (R, R) of this rank's subjects."""
    block_T = np.full(data.split.n_trs, -1)
    blocks = (*data.split.train_blocks, *data.split.validation_blocks, *data.split.test_blocks)
    for number, (start, stop) in enumerate(blocks):
        block_T[start:stop] = number
    voxels = np.flatnonzero(data.responsive_V) if data.responsive_V.any() else np.arange(data.n_voxels)
    kernel_RR = np.zeros((len(rows), len(rows)))
    for subject in shards.local_subjects:
        bold_TV = data.bold[subject]
        for later in range(LATER_TRS + 1):
            at = np.minimum(rows + later, data.split.n_trs - 1)
            seen_RV = bold_TV[at][:, voxels]
            seen_RV[(block_T[at] != block_T[rows]) | (at != rows + later)] = 0.0
            if data.present:
                seen_RV[~data.present[subject][at]] = 0.0
            kernel_RR += seen_RV @ seen_RV.T
    return kernel_RR
