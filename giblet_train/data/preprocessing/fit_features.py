"""Scales, weights and targets of the stimulus features, fitted to training TRs.

T TRs, F features of a modality, P pixels of a small frame, B books of Q codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.component_stats import code_stats, feature_stats
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.preprocessing.standardize import ColumnScale, fit_columns
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.stimulus.code_frequencies import unigram
from giblet_train.data.stimulus.frame_pca import FramePca, fit_frame_pca
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.records import ModalityFacts

PCA_WIDTH = {"tiny": 64, "lab": 512, "large": 1024}

Floats = NDArray[np.floating[Any]]
Singles = NDArray[np.float32]


@dataclass(frozen=True)
class FittedFeatures:
    """Inputs and reconstruction targets of the network. See the fields of the same name in `PreparedSplit`."""

    inputs: Mapping[str, Singles]
    targets: Mapping[str, Singles]
    target_weights: Mapping[str, Singles]
    frame_pca: FramePca
    pca_columns: slice
    feature_mean: Mapping[str, Singles]
    feature_sd: Mapping[str, Singles]
    unigram: Mapping[str, Singles]
    facts: Mapping[str, ModalityFacts]


def fit_features(study: Study, split: Split, config: Config) -> FittedFeatures:
    """Fit frame components, scales, weights and code frequencies to the split's training TRs."""
    stored = {m: np.array(x_TF, np.float32) for m, x_TF in study.features.items()}
    frame_pca = fit_frame_pca(study.frames_TKHWC, split.train, PCA_WIDTH[config.model.preset])
    raw = stored | {"video": np.concatenate([stored["video"], frame_pca.scores(study.frames_TKHWC)], axis=1)}
    scales = {m: fit_columns(raw_TF, split.train) for m, raw_TF in raw.items()}
    scaled = {m: scales[m].apply(raw_TF) for m, raw_TF in raw.items()}
    unigrams = {m: unigram(stored[m][split.train], n_codes, m) for m, n_codes in study.codes.items()}
    targets = scaled | {m: stored[m] for m in unigrams}
    weights = {m: _weights(scales[m], frame_pca.variance_F if m == "video" else None) for m in raw}
    weights |= {m: _code_weights(stored[m][split.train]) for m in unigrams}
    n_fixed = stored["video"].shape[1]
    return FittedFeatures(
        inputs=_inputs(raw, scaled, study, split, config),
        targets=targets,
        target_weights=weights,
        frame_pca=frame_pca,
        pca_columns=slice(0) if "video" in unigrams else slice(n_fixed, raw["video"].shape[1]),
        feature_mean={m: scales[m].mean_F for m in raw if m not in unigrams},
        feature_sd={m: scales[m].sd_F for m in raw if m not in unigrams},
        unigram=unigrams,
        facts={
            m: code_stats(stored[m][split.train], unigrams[m])
            if m in unigrams
            else feature_stats(raw[m][split.train], targets[m][split.train], weights[m])
            for m in raw
        },
    )


def _weights(scale: ColumnScale, pca_variance_F: Singles | None) -> Singles:
    """Return loss weights with mean 1; constant features weigh 0.

    Components of frames get half of the video's weight, shared in proportion to their variance.
    """
    weight_F = (scale.sd_F > 0).astype(np.float32)
    if pca_variance_F is not None:
        n_fixed = len(weight_F) - len(pca_variance_F)
        weight_F[:n_fixed] /= max(1.0, weight_F[:n_fixed].sum())
        weight_F[n_fixed:] *= pca_variance_F / pca_variance_F.sum()
    total = weight_F.sum()
    return weight_F * np.float32(len(weight_F) / total) if total else weight_F


def _code_weights(shares_RF: Singles) -> Singles:
    """Return each code's variance over training TRs, scaled to mean 1."""
    variance_F = shares_RF.var(axis=0)
    return np.asarray(variance_F / variance_F.mean(), np.float32)


def _inputs(
    raw: Mapping[str, Floats], scaled: Mapping[str, Floats], study: Study, split: Split, config: Config
) -> Mapping[str, Floats]:
    """Return the inputs of the network: the features, or for a dense model every pixel instead of video features."""
    if config.model.kind == "dense":
        pixels_TP = study.frames_TKHWC.reshape(len(study.frames_TKHWC), -1).astype(np.float32)
        raw = {**raw, "video": pixels_TP}
        scaled = {**scaled, "video": fit_columns(pixels_TP, split.train).apply(pixels_TP)}
    return _convolved(raw, study, split, config) if config.data.apply_hrf else scaled


def _convolved(raw: Mapping[str, Floats], study: Study, split: Split, config: Config) -> dict[str, Singles]:
    """Convolve the features with Glover's HRF of `model.fir_trs` TRs within each scan, then scale them."""
    kernel = glover(study.tr_s, config.model.fir_trs * study.tr_s)
    edges = np.cumsum(study.scan_lengths_trs)[:-1]
    inputs = {}
    for modality, raw_TF in raw.items():
        parts = [convolve_causal(part.astype(np.float64), kernel) for part in np.split(raw_TF, edges)]
        blurred_TF = np.concatenate(parts)
        inputs[modality] = fit_columns(blurred_TF, split.train).apply(blurred_TF)
    return inputs
