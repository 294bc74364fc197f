"""What the ridge start concludes about each voxel: which feature spaces drive it, how strongly, and for how long.

All of it is the posterior over the priors that the start tried, given training TRs: spaces and memory by the evidence
of the mean response and of each subject's deviation from it, the rest by that of the mean.

V voxels, C priors, B bands (a feature space with a memory), H shares of variance, M feature spaces, G values of
EXPLAINED.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.components.marginal_likelihood import EXPLAINED

Floats = NDArray[np.floating[Any]]
NONLINEAR = "nonlinear"
"""Name of all nonlinear feature spaces together that belong to more than one modality."""
MIXED = "mixed"
"""Name of voxels in which no space has half of the explained variance."""
INTERVAL = 0.9
LEAST_SIGNAL = 0.95
"""Posterior probability of a response from which a voxel counts as driven by the film."""
LEAST_EXPLAINED = 0.02
"""Share of variance that counts as a response; smaller ones cannot be distinguished from none."""


@dataclass(frozen=True)
class VoxelPosterior:
    """Posterior of each voxel."""

    spaces: tuple[str, ...]
    """Modalities, and `nonlinear` if a voxel uses an interaction of several."""
    share_VM: Floats
    """Share of the explained variance by space; rows sum to 1."""
    signal_V: Floats
    """Probability that the film explains at least LEAST_EXPLAINED of the variance."""
    explained_V: Floats
    """Share of the variance of the mean response in training TRs that the film explains: mean of its posterior."""
    low_V: Floats
    """Lower end of the interval of that share that contains INTERVAL of its posterior."""
    high_V: Floats
    """Upper end of it."""
    memory_s_V: Floats
    """Mean time constant of the memory in seconds; 0 is the haemodynamic response alone."""

    @property
    def driven_V(self) -> NDArray[np.bool_]:
        """Return the voxels that very probably respond to the film."""
        return np.asarray(self.signal_V >= LEAST_SIGNAL)

    @property
    def preferred_V(self) -> NDArray[np.intp]:
        """Return the index (V,) of the space with more than half of the explained variance.

        It is `len(spaces)`, mixed, where none has half, and -1 where the film drives nothing.
        """
        preferred_V = np.where(self.share_VM.max(axis=1) > 0.5, self.share_VM.argmax(axis=1), len(self.spaces))
        return np.where(self.driven_V, preferred_V, -1)

    @property
    def preferred_names(self) -> tuple[str, ...]:
        """Return the names of the indices of `preferred_V`."""
        return (*self.spaces, MIXED)

    @property
    def unique_VM(self) -> Floats:
        """Return the variance that each space explains by itself, as a share of all variance."""
        return np.asarray(self.explained_V[:, None] * self.share_VM)


def voxel_posterior(
    belief_VCH: Floats,
    share_VH: Floats,
    explained_VG: Floats,
    shares: Sequence[float],
    weight_CB: Floats,
    band_spaces: Sequence[str],
    memories_s: Floats,
) -> VoxelPosterior:
    """Summarise a posterior.

    Args:
        belief_VCH: posterior probability of each prior and share of variance, for spaces and memory.
        share_VH: posterior probability of each share of variance.
        explained_VG: posterior distribution of the explained share at EXPLAINED by each voxel's own evidence.
            Neighbours sharpen the choice of spaces, but their shares of variance differ, so that intervals that borrow
            from them would be too narrow.
        shares: share of variance of each H, increasing from 0.
        weight_CB: weight of each band in each prior.
        band_spaces: feature space of each band.
        memories_s: (B,) memory of each band in seconds.
    """
    share_H = np.array(shares)
    expected_VC = belief_VCH @ share_H
    band_VB = expected_VC @ weight_CB / np.maximum(expected_VC.sum(axis=1), 1e-9)[:, None]
    groups = [space_group(space) for space in band_spaces]
    spaces = tuple(sorted(set(groups), key=groups.index))
    share_VM = np.stack([band_VB[:, [g == space for g in groups]].sum(axis=1) for space in spaces], axis=1)
    signal_V = share_VH[:, share_H >= LEAST_EXPLAINED].sum(axis=1)
    explained_V = np.trapezoid(1.0 - explained_VG, EXPLAINED, axis=1)
    low_V, high_V = interval(explained_VG, EXPLAINED, INTERVAL)
    return VoxelPosterior(spaces, share_VM, signal_V, explained_V, low_V, high_V, np.asarray(band_VB @ memories_s))


def space_group(space: str) -> str:
    """Return the modality of a feature space: of `video` and `video_x_video` it is video; else NONLINEAR."""
    parts = space.split("_x_")
    if space == "rectified" or len(set(parts)) > 1:
        return NONLINEAR
    return parts[0]


def interval(below_VG: Floats, share_G: Floats, level: float) -> tuple[Floats, Floats]:
    """Return the ends (V,) of the central interval of a distribution function (V, G) on a grid of shares."""
    low, high = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    ends_V2 = np.array([np.interp((low, high), row_G, share_G) for row_G in below_VG]).reshape(-1, 2)
    return ends_V2[:, 0], ends_V2[:, 1]
