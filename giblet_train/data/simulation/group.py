"""Everyone in a simulated study: what they share, each one's series, and the truth about both.

Shapes: T TRs, F features, V brain voxels, R responsive voxels, P motion parameters, X Y Z the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.cortex import SHARED_VARIANCE, Cortex, draw_cortex
from giblet_train.data.simulation.ground_truth import feature_names
from giblet_train.data.simulation.noise import PARAMETERS, draw_noise
from giblet_train.data.simulation.regions import REGIONS, Grid, Mask, Region, label_regions
from giblet_train.data.simulation.scanner import Scanner, Subject, draw_subject
from giblet_train.data.simulation.smooth_maps import SmoothMaps
from giblet_train.data.statistics import hrf

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SimulatedGroup:
    """Part of a study that all subjects share. Subject n's own draws depend only on the seed and n."""

    seed: int
    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    region_XYZ: NDArray[np.int8]
    features_TF: Mapping[str, NDArray[np.float64]]
    responsive_maps: SmoothMaps
    cortex: Cortex
    scanner: Scanner

    def scan_subject(self, path: Path, number: int) -> tuple[Subject, Arrays]:
        """Write one subject's series to `path`. Returns who they are, and their arrays for the truth file."""
        rng = np.random.default_rng([self.seed, number])
        subject = draw_subject(rng, number)
        weights_FR = self.cortex.own_weights(rng, self.responsive_maps)
        kernel_K = hrf.double_gamma(subject.hrf_peak_s, self.tr_s)
        response_TR = self.cortex.respond(self.features_TF, weights_FR, kernel_K, self.scan_lengths_trs)
        scans = [draw_noise(rng, self.scanner.maps, n_trs, self.tr_s) for n_trs in self.scan_lengths_trs]
        percent_TV = np.concatenate([noise.values_TV for noise in scans])
        percent_TV *= np.float32(100.0 / subject.tsnr)
        percent_TV[:, self.region_of_V > 0] += response_TR
        self.scanner.record(path, rng, subject, self.scanner.draw_head(rng, subject), percent_TV)
        truth: Arrays = {f"weights_{group}_FR": values.astype(np.float16) for group, values in weights_FR.items()}
        truth["motion_TP"] = np.concatenate([noise.motion_TP for noise in scans]).astype(np.float32)
        return subject, {f"sub-{number:02d}_{name}": values for name, values in truth.items()}

    @property
    def region_of_V(self) -> NDArray[np.int8]:
        """Return 1 + index into `REGIONS` of each brain voxel, 0 for voxels that do not respond."""
        labels_V: NDArray[np.int8] = self.region_XYZ[self.scanner.brain_XYZ]
        return labels_V

    def shared_truth(self) -> Arrays:
        """Return the arrays of the truth file that belong to no single subject."""
        arrays: Arrays = {
            "brain_XYZ": self.scanner.brain_XYZ,
            "region_XYZ": self.region_XYZ,
            "percent_R": self.cortex.percent_R.astype(np.float32),
        }
        arrays |= {f"features_{group}_TF": x_TF.astype(np.float32) for group, x_TF in self.features_TF.items()}
        arrays |= {f"weights_{group}_FR": w_FR.astype(np.float16) for group, w_FR in self.cortex.weights_FR.items()}
        return arrays

    def described_truth(self, subjects: list[Subject]) -> dict[str, object]:
        """Describe the arrays of the truth file, each region and each subject in words and numbers."""
        return {
            "regions": [{"label": n, **_described(region)} for n, region in enumerate(REGIONS, 1)],
            "features": feature_names(),
            "motion": PARAMETERS,
            "shared_variance_of_weights": SHARED_VARIANCE,
            "cohort_seed": [self.seed, 0],
            "subjects": [{**asdict(subject), "seed": [self.seed, subject.number]} for subject in subjects],
        }


def draw_cohort(
    seed: int,
    grid: Grid,
    brain_XYZ: Mask,
    rim_XYZ: Mask,
    features_TF: Mapping[str, NDArray[np.float64]],
    scan_lengths_trs: tuple[int, ...],
    tr_s: float,
) -> SimulatedGroup:
    """Draw subjects who watch the film with the given true features, in a brain of the given shape."""
    region_XYZ = label_regions(grid, brain_XYZ)
    responsive_maps = SmoothMaps(grid, region_XYZ > 0)
    counts = {group: values_TF.shape[1] for group, values_TF in features_TF.items()}
    rng = np.random.default_rng([seed, 0])
    return SimulatedGroup(
        seed=seed,
        tr_s=tr_s,
        scan_lengths_trs=scan_lengths_trs,
        region_XYZ=region_XYZ,
        features_TF=features_TF,
        responsive_maps=responsive_maps,
        cortex=draw_cortex(rng, responsive_maps, region_XYZ[region_XYZ > 0], counts),
        scanner=Scanner(grid, brain_XYZ, rim_XYZ, SmoothMaps(grid, brain_XYZ), tr_s),
    )


def _described(region: Region) -> dict[str, object]:
    return {
        "name": region.name,
        "centres_mm": region.centres_mm,
        "radius_mm": region.radius_mm,
        "shares": dict(region.shares),
    }
