"""Correlation over time, its chance level, and segment identification.

T TRs, V voxels, F features, G segments, N shifts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.stimulus.code_frequencies import code_cross_entropy

Array = NDArray[np.floating[Any]]
SMALLEST_SHIFT_TRS = 20
SEGMENT_TRS = 5


def pearson(predicted_TV: Array, measured_TV: Array) -> NDArray[np.float64]:
    """Return the correlation over time of each column (V,), summed in double precision.

    It is 0 if either is constant, and NaN without TRs.
    """
    if not len(measured_TV):
        return np.full(measured_TV.shape[1:], np.nan)
    predicted = _centred(predicted_TV)
    measured = _centred(measured_TV)
    norm_V = np.sqrt((predicted**2).sum(axis=0) * (measured**2).sum(axis=0))
    product_V = (predicted * measured).sum(axis=0)
    return np.asarray(np.divide(product_V, norm_V, out=np.zeros_like(product_V), where=norm_V > 0))


def shifted_r(predicted_TV: Array, measured_TV: Array, smallest_trs: int = SMALLEST_SHIFT_TRS) -> NDArray[np.float64]:
    """Return the correlation of each voxel (N, V) after circular shifts of at least `smallest_trs` TRs.

    Shifts keep the autocorrelation of both series, which makes chance correlations of smooth series large.
    """
    n_trs = len(predicted_TV)
    smallest = min(smallest_trs, max(1, n_trs // 3))
    # r of every shift at once, as a circular cross-correlation.
    spectrum = np.fft.rfft(unit(measured_TV), axis=0) * np.conj(np.fft.rfft(unit(predicted_TV), axis=0))
    return np.asarray(np.fft.irfft(spectrum, n=n_trs, axis=0)[smallest : n_trs - smallest + 1])


def contributions_of(predicted_TV: Array, measured_TV: Array) -> NDArray[np.float64]:
    """Return each TR's influence (T,) on the mean of r over voxels; they sum to it. Without TRs there is none.

    Unlike `products_of`, they also contain how a TR changes the variances that r is divided by, without which
    intervals of large correlations would be too wide.
    """
    if not len(measured_TV):
        return np.zeros(0)
    predicted, measured = unit(predicted_TV), unit(measured_TV)
    products_TV = predicted * measured
    r_V = products_TV.sum(axis=0)
    influence_T = (products_TV - 0.5 * r_V * (predicted**2 + measured**2)).mean(axis=1)
    return np.asarray(influence_T + r_V.mean() / len(predicted))


def products_of(predicted_TV: Array, measured_TV: Array) -> NDArray[np.float64]:
    """Return each TR's contribution (T,) to the mean of r over voxels; they sum to it."""
    return np.asarray((unit(predicted_TV) * unit(measured_TV)).mean(axis=1))


def identification(predicted_TF: Array, true_TF: Array, segment_trs: int = SEGMENT_TRS) -> dict[str, float]:
    """Return how often a segment of the film is identified among the others by the correlation of whole segments.

    Segments are consecutive and do not overlap. A segment's neighbours are no distractors, because
    autocorrelation makes them similar. Returns two_way (chance .5), top_1, top_5, their chance, n_segments.
    """
    n_segments = len(true_TF) // segment_trs
    if n_segments < 3:
        return {"n_segments": float(n_segments)}
    predicted = _segments(predicted_TF, n_segments, segment_trs)
    true = _segments(true_TF, n_segments, segment_trs)
    similarity_GG = predicted @ true.T
    distance_GG = np.abs(np.subtract.outer(np.arange(n_segments), np.arange(n_segments)))
    rival_GG = distance_GG > 1
    own_G = np.diag(similarity_GG)
    beaten_GG = (own_G[:, None] > similarity_GG) & rival_GG
    rank_G = (rival_GG & ~beaten_GG).sum(axis=1)
    n_rivals_G = rival_GG.sum(axis=1)
    chance = 1.0 / (n_rivals_G + 1.0)
    return {
        "two_way": float((beaten_GG.sum(axis=1) / n_rivals_G).mean()),
        "top_1": float((rank_G == 0).mean()),
        "top_5": float((rank_G < 5).mean()),
        "top_1_chance": float(chance.mean()),
        "top_5_chance": float(np.minimum(1.0, 5.0 * chance).mean()),
        "n_segments": float(n_segments),
    }


def reconstruction(
    predicted_TF: Array, true_TF: Array, weight_F: Array, unigram_BQ: Array | None = None
) -> dict[str, float]:
    """Return skill (1 - error / error of the training mean, which is 0), mean r over features, and `identification`.

    Args:
        weight_F: weight of each feature, mean 1.
        unigram_BQ: training frequency of each code, for codes. Then predictions are probabilities, true values are
            shares, and the error is the cross-entropy relative to that of the unigram.
    """
    if unigram_BQ is None:
        error = (((predicted_TF - true_TF) ** 2) @ weight_F).sum()
        baseline = ((true_TF**2) @ weight_F).sum()
        root_F = np.sqrt(weight_F)
    else:
        error, baseline = (
            code_cross_entropy(true_TF, predicted_TF.reshape(-1, *unigram_BQ.shape)),
            code_cross_entropy(true_TF, unigram_BQ),
        )
        root_F = np.ones_like(weight_F)  # shares as they are already weigh as their variance
    return {
        "skill": float(1.0 - error / baseline),
        "r": float(np.average(pearson(predicted_TF, true_TF), weights=weight_F)),
    } | identification(predicted_TF * root_F, true_TF * root_F)


def _segments(x_TF: Array, n_segments: int, segment_trs: int) -> NDArray[np.float64]:
    """Return segments (G, segment·F) without the block's mean, each of norm 1."""
    centred = x_TF[: n_segments * segment_trs] - x_TF[: n_segments * segment_trs].mean(axis=0)
    flat = centred.reshape(n_segments, -1).astype(np.float64)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))


def _centred(x_TV: Array) -> NDArray[np.float64]:
    x_double = np.asarray(x_TV, np.float64)
    return np.asarray(x_double - x_double.mean(axis=0)) if len(x_double) else x_double


def unit(x_TV: Array) -> NDArray[np.float64]:
    """Centre columns and scale them to norm 1, so that products of two sum to correlations; 0 if constant."""
    centred = _centred(x_TV)
    norm_V = np.linalg.norm(centred, axis=0)
    return np.asarray(np.divide(centred, norm_V, out=np.zeros_like(centred), where=norm_V > 0))
