"""Principal components of a film's frames, fitted on training TRs, and the way back to pictures.

T TRs, R training TRs, K frames in a TR, H W C rows, columns, colours, P = H·W·C, F components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SMALLEST_EIGENVALUE = 1e-6


@dataclass(frozen=True)
class FramePca:
    """Principal components of mean frames, brightness from 0 to 1."""

    mean_P: NDArray[np.float32]
    """Mean frame."""
    components_FP: NDArray[np.float32]
    """Orthonormal rows."""
    variance_F: NDArray[np.float32]
    """Variance along each component, descending."""

    def scores(self, frames_TKHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Project each TR's mean frame on the components, (T, F)."""
        centred_TP = mean_frames(frames_TKHWC) - self.mean_P
        return np.asarray(centred_TP @ self.components_FP.T, np.float32)

    def pictures(self, scores_TF: NDArray[np.float32], shape_HWC: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the pictures of the scores, (T, H, W, C)."""
        light_TP = np.clip(scores_TF @ self.components_FP + self.mean_P, 0.0, 1.0)
        bytes_TP: NDArray[np.uint8] = np.rint(light_TP * 255.0).astype(np.uint8)
        return bytes_TP.reshape(len(scores_TF), *shape_HWC)


def mean_frames(frames_TKHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average the frames of each TR, (T, P), brightness from 0 to 1."""
    mean_THWC: NDArray[np.float32] = frames_TKHWC.mean(axis=1, dtype=np.float32) / np.float32(255.0)
    return mean_THWC.reshape(len(frames_TKHWC), -1)


def fit_frame_pca(frames_TKHWC: NDArray[np.uint8], train: NDArray[np.intp], width: int) -> FramePca:
    """Fit at most `width` components of the training TRs' mean frames, by the eigenvectors of their (R, R) Gram matrix.

    Directions whose variance is below a millionth of the largest are rounding, and left out.
    """
    frames_RP = mean_frames(frames_TKHWC[train])
    mean_P = frames_RP.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred_RP = (frames_RP - mean_P).astype(np.float64)
    values, vectors = np.linalg.eigh(centred_RP @ centred_RP.T)
    order = np.argsort(values)[::-1][:width]
    order = order[values[order] > SMALLEST_EIGENVALUE * max(values[order[0]], 1e-12)]
    components_FP = (vectors[:, order].T @ centred_RP) / np.sqrt(values[order])[:, None]
    components_FP *= np.sign(components_FP[np.arange(len(order)), np.abs(components_FP).argmax(axis=1)])[:, None]
    return FramePca(mean_P, components_FP.astype(np.float32), (values[order] / len(train)).astype(np.float32))
