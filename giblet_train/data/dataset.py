"""One split of a study, standardised with what its training TRs alone say.

T TRs, V voxels that the split's mask keeps, F features of a modality, P numbers of a small frame, S subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.contract.records import ModalityFacts
from giblet_train.data.splits import Split
from giblet_train.data.study import Study


@dataclass(frozen=True)
class FramePca:
    """Principal components of frames, fitted on training TRs: mean_P and components_FP with orthonormal rows."""

    mean_P: NDArray[np.float32]
    components_FP: NDArray[np.float32]


@dataclass(frozen=True)
class SplitData:
    """What the engine trains on. All parameters come from `split.train`; rows of every array are all T TRs.

    inputs: modality -> (T, F) float32, mean 0 and sd 1 over training TRs; HRF-convolved where `data.apply_hrf` says so.
    targets: modality -> (T, F) float32, the same features never convolved: what is reconstructed.
    target_weights: modality -> (F,) float32 with mean 1, by which a reconstruction's squared errors are weighed; with
        them the mean of the training TRs still scores exactly 1.
    bold: subject -> (T, V) float32, z-scored per voxel and scan over training TRs. Each access computes the array anew
        from the memory map, so memory does not grow with subjects; keep it only while it is needed.
    voxels_V: the kept voxels as indices into the study's V. mask_XYZ: the same on the grid, in C order.
    isc_V: mean correlation between pairs of subjects over training TRs (Fisher z), rho of the noise ceiling sqrt(rho).
    responsive_V: isc_V is above what circular shifts of the subjects against one another give by chance.
    null_V: isc_V is inside the middle half of that null: voxels in which no shared signal is expected.
    frame_pca: with the columns `pca_columns` of the video features, frames come back from predictions.
    feature_mean, feature_sd: modality -> (F,), the parameters behind `targets`.
    facts: component ("fmri", "video", ...) -> its scale before and after.
    """

    study: Study
    split: Split
    inputs: Mapping[str, NDArray[np.float32]]
    targets: Mapping[str, NDArray[np.float32]]
    target_weights: Mapping[str, NDArray[np.float32]]
    bold: Mapping[str, NDArray[np.float32]]
    voxels_V: NDArray[np.intp]
    mask_XYZ: NDArray[np.bool_]
    isc_V: NDArray[np.float32]
    responsive_V: NDArray[np.bool_]
    null_V: NDArray[np.bool_]
    frame_pca: FramePca
    pca_columns: slice
    feature_mean: Mapping[str, NDArray[np.float32]]
    feature_sd: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, ModalityFacts]
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Labels of the heads: every subject, or one "average" in cross_subject mode."""
        return tuple(self.bold)

    @property
    def n_voxels(self) -> int:
        """V: voxels that the split's mask keeps."""
        return len(self.voxels_V)
