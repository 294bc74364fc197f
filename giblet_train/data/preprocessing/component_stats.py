"""The scale of each component before and after normalisation, over training TRs: what the run records in minute one.

R training TRs, F features, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.standardize import ScanMoments
from giblet_train.data.stimulus.code_frequencies import code_cross_entropy, looks_categorical
from giblet_train.schema.records import ModalityFacts


def feature_stats(
    raw_RF: NDArray[np.floating[Any]], scaled_RF: NDArray[np.float32], weight_F: NDArray[np.float32]
) -> ModalityFacts:
    """Return the facts of one modality; mean and sd are of the features that vary. weight_F: the loss's, of mean 1."""
    raw = raw_RF.astype(np.float64)
    scaled = scaled_RF.astype(np.float64)
    varies_F = scaled.std(axis=0) > 0
    varying = scaled[:, varies_F] if varies_F.any() else scaled
    variance = float((scaled.var(axis=0) * weight_F).mean())
    power = float(((scaled**2).mean(axis=0) * weight_F).mean())
    return ModalityFacts(
        n_targets=raw.shape[1],
        raw_mean=float(raw.mean()),
        raw_sd=float(raw.std()),
        raw_min=float(raw.min()),
        raw_max=float(raw.max()),
        mean=float(varying.mean()),
        sd=float(varying.std()),
        train_variance=variance,
        expected_first_loss=power / variance if variance else None,
        constant_targets=int((~varies_F).sum()),
        looks_categorical=looks_categorical(raw_RF),
    )


def code_stats(shares_RF: NDArray[np.float32], unigram_BQ: NDArray[np.float32]) -> ModalityFacts:
    """Return the facts of a modality whose targets are shares of codes, against how often each occurs, (B, Q)."""
    mean, sd = float(shares_RF.mean(dtype=np.float64)), float(shares_RF.std(dtype=np.float64))
    return ModalityFacts(
        n_targets=shares_RF.shape[1],
        raw_mean=mean,
        raw_sd=sd,
        raw_min=float(shares_RF.min()),
        raw_max=float(shares_RF.max()),
        mean=mean,
        sd=sd,
        train_variance=code_cross_entropy(shares_RF, unigram_BQ),
        constant_targets=int((shares_RF.max(axis=0) == 0).sum()),
        codes=unigram_BQ.shape[1],
    )


def bold_stats(
    moments: Sequence[ScanMoments],
    references: Sequence[NDArray[np.float32]],
    voxels: NDArray[np.intp],
    scaled: Mapping[str, float],
) -> ModalityFacts:
    """Return the facts of all subjects' fMRI. scaled: "mean", "sd", "variance" and "constant" after normalisation."""
    totals = [_raw_totals(m, r, voxels) for m, r in zip(moments, references, strict=True)]
    mean = float(np.mean([t[0] for t in totals]))
    square = float(np.mean([t[1] for t in totals]))
    variance = scaled["variance"]
    return ModalityFacts(
        n_targets=len(voxels),
        raw_mean=mean,
        raw_sd=float(np.sqrt(max(0.0, square - mean**2))),
        raw_min=min(t[2] for t in totals),
        raw_max=max(t[3] for t in totals),
        mean=scaled["mean"],
        sd=scaled["sd"],
        train_variance=variance,
        expected_first_loss=(scaled["sd"] ** 2 + scaled["mean"] ** 2) / variance if variance else None,
        constant_targets=int(scaled["constant"]),
    )


def _raw_totals(
    moments: ScanMoments, reference_V: NDArray[np.float32], voxels: NDArray[np.intp]
) -> tuple[float, float, float, float]:
    """Return mean, mean square, smallest and largest value of one subject in the file's own unit."""
    n = moments.n_C.sum()
    reference = reference_V[voxels].astype(np.float64)
    mean_V = moments.sum_CV.sum(axis=0)[voxels] / n
    square_V = moments.square_CV.sum(axis=0)[voxels] / n
    raw_square_V = square_V + 2 * reference * mean_V + reference**2
    low, high = reference + moments.low_V[voxels], reference + moments.high_V[voxels]
    return float((mean_V + reference).mean()), float(raw_square_V.mean()), float(low.min()), float(high.max())
