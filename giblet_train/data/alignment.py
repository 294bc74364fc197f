"""Film against brain over a split's training TRs, measured before the first step: `contract.alignment` judges it.

Of the brain only training TRs are looked at; of the film all, for what a brain follows may lie before them. Nothing is
fitted that a model will see. T TRs, R training TRs, V voxels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from giblet_train.contract.records import AlignmentFacts
from giblet_train.data.dataset import SplitData
from giblet_train.data.lag import SHOWN, lag_row, leading_series, response_series

MAX_VOXELS = 4096


def alignment_of(data: SplitData) -> AlignmentFacts | None:
    """The lag of the subjects' mean response in responsive voxels, in all training TRs and in each third of them.

    None where numbers are not finite, which minute one tells of itself.
    """
    split, tr_s = data.split, data.study.tr_s
    mean_RV = _mean_response(data)
    if not np.isfinite(mean_RV).all() or not all(np.isfinite(data.targets[m]).all() for m in SHOWN):
        return None
    stimulus_TF = leading_series({m: data.targets[m] * np.sqrt(data.target_weights[m]) for m in SHOWN}, tr_s)
    response_TN = response_series(mean_RV, split.train_blocks, tr_s, split.n_trs)
    return lag_row("average", stimulus_TF, response_TN, split.train, tr_s).facts


def _mean_response(data: SplitData) -> NDArray[np.float32]:
    """(R, V'): the mean over subjects, each scaled, of a regular choice of responsive voxels; one subject at a time."""
    voxels = np.flatnonzero(data.responsive_V) if data.responsive_V.any() else np.arange(data.n_voxels)
    chosen = voxels[:: math.ceil(len(voxels) / MAX_VOXELS)]
    mean_RV = np.zeros((len(data.split.train), len(chosen)), np.float32)
    for subject in data.subjects:
        rows_RV = data.bold[subject][data.split.train[:, None], chosen]
        mean_RV += rows_RV / np.float32(max(float(rows_RV.std()), 1e-9) * len(data.subjects))
    return mean_RV
