"""Simulate responses of voxels to a film: a linear map per subject from the true features, then an HRF.

Shapes: T TRs, F features of one group, R responsive voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.regions import REGIONS
from giblet_train.data.simulation.smooth_maps import SmoothMaps
from giblet_train.data.statistics import hrf

Floats = NDArray[np.float64]
Single = NDArray[np.float32]

SHARED_VARIANCE = 0.8
SIGNAL_PERCENT = (0.7, 1.0)


@dataclass(frozen=True)
class Cortex:
    """Part of the cortex that all subjects share."""

    shares_R: Mapping[str, Floats]
    """Group of true features -> share of the explainable variance in each responsive voxel."""
    weights_FR: Mapping[str, Single]
    """Group of true features -> shared weights, unit variance."""
    percent_R: Floats
    """Standard deviation of the response, percent of the voxel's mean."""

    def own_weights(self, rng: np.random.Generator, maps: SmoothMaps) -> dict[str, Single]:
        """Return a subject's weights: √0.8 of the group's and √0.2 of their own."""
        common, own = math.sqrt(SHARED_VARIANCE), math.sqrt(1.0 - SHARED_VARIANCE)
        return {
            group: common * weights_FR + own * maps.draw(rng, len(weights_FR))
            for group, weights_FR in self.weights_FR.items()
        }

    def respond(
        self,
        features_TF: Mapping[str, Floats],
        weights_FR: Mapping[str, Single],
        kernel_K: Floats,
        scan_lengths_trs: tuple[int, ...],
    ) -> Single:
        """Return (T, R) percent signal change, mean 0 over the study.

        Each scan starts from rest. The part of every group of features has unit variance before its share.
        """
        response_TR = np.zeros((sum(scan_lengths_trs), len(self.percent_R)))
        for group, share_R in self.shares_R.items():
            scans = np.split(features_TF[group], np.cumsum(scan_lengths_trs)[:-1])
            driven_TF = np.concatenate([hrf.convolve_causal(scan, kernel_K) for scan in scans])
            response_TR += _standardized(driven_TF @ weights_FR[group].astype(float)) * np.sqrt(share_R)
        return (_standardized(response_TR) * self.percent_R).astype(np.float32)


def draw_cortex(
    rng: np.random.Generator, maps: SmoothMaps, region_of_R: NDArray[np.int8], feature_counts: Mapping[str, int]
) -> Cortex:
    """Draw the part of the cortex that all subjects share.

    Args:
        region_of_R: 1 + index into `REGIONS` of each responsive voxel.
        feature_counts: Group -> F.
    """
    shares = {group: np.array([region.shares.get(group, 0.0) for region in REGIONS]) for group in feature_counts}
    return Cortex(
        shares_R={group: share[region_of_R - 1] for group, share in shares.items()},
        weights_FR={group: maps.draw(rng, count) for group, count in feature_counts.items()},
        percent_R=rng.uniform(*SIGNAL_PERCENT, len(region_of_R)),
    )


def _standardized(x_TR: Floats) -> Floats:
    x_TR = x_TR - x_TR.mean(axis=0)
    sd_R = x_TR.std(axis=0)
    return x_TR / np.where(sd_R > 0.0, sd_R, 1.0)
