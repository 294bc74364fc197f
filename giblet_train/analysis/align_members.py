"""Map one ensemble member's predictions to another member's voxel mask and feature scaling.

Voxel masks, feature scales and frame components are fitted on training TRs, so they differ between members with
different validation blocks. T test TRs, V voxels, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.preprocessing.standardize import ColumnScale

Floats = NDArray[np.float32]


class Mean:
    """Mean of (T, V) predictions over members; NaN marks voxels that a member dropped."""

    def __init__(self) -> None:
        self._sum_TV: Floats | np.float32 = np.float32(0.0)
        self._n_V: NDArray[np.int64] | int = 0

    def add(self, predicted_TV: Floats) -> None:
        """Add one member's predictions."""
        self._sum_TV = self._sum_TV + np.nan_to_num(predicted_TV)
        self._n_V = self._n_V + np.isfinite(predicted_TV[0]).astype(np.int64)

    @property
    def value_TV(self) -> Floats:
        """Return the mean; 0 in voxels that no member predicts."""
        return np.asarray(self._sum_TV / np.maximum(self._n_V, 1), np.float32)


def to_voxels_of(member: PreparedSplit, other: PreparedSplit, predicted_TV: Floats) -> Floats:
    """Return predictions (T, V of the other), NaN in voxels that the member dropped."""
    if np.array_equal(member.voxels_V, other.voxels_V):
        return predicted_TV
    studied_TV = np.full((len(predicted_TV), np.count_nonzero(member.study.mask)), np.nan, np.float32)
    studied_TV[:, member.voxels_V] = predicted_TV
    return studied_TV[:, other.voxels_V]


def to_features_of(member: PreparedSplit, other: PreparedSplit, modality: str, rebuilt_TF: Floats) -> Floats:
    """Return features (T, F of the other) in its scale and frame components; shares of codes are unchanged."""
    if modality in member.unigram or member.split == other.split:
        return rebuilt_TF
    raw_TF = rebuilt_TF * member.feature_sd[modality] + member.feature_mean[modality]
    if modality == "video":
        theirs, ours = member.frame_pca, other.frame_pca
        light_TP = raw_TF[:, member.pca_columns] @ theirs.components_FP + theirs.mean_P
        scores_TF = (light_TP - ours.mean_P) @ ours.components_FP.T
        raw_TF = np.concatenate([raw_TF[:, : member.pca_columns.start], scores_TF], axis=1)
    return ColumnScale(other.feature_mean[modality], other.feature_sd[modality]).apply(raw_TF)
