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
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import ModalityFacts

N_FRAME_COMPONENTS = 64
"""Each component is scaled to variance 1, so further ones would weigh as much as the first in the ridge start."""

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
    input_scales: Mapping[str, ColumnScale]
    notes: tuple[str, ...] = ()


def fit_features(study: Study, split: Split, config: Config) -> FittedFeatures:
    """Fit frame components, scales, weights and code frequencies to the split's training TRs.

    A space that never changes there is left out, with a note. Rows in which a stimulus lacks a space are 0. Targets are
    the spaces that the configuration reconstructs.
    """
    raw_features = {m: np.array(x_TF, np.float32) for m, x_TF in study.features.items()}
    train = {m: _shown_rows(study, m, split.train) for m in raw_features}
    raw_features = {m: x_TF for m, x_TF in raw_features.items() if _varies(x_TF[train[m]])}
    frame_pca, raw = _with_frame_components(study, raw_features, train)
    scales = {m: fit_columns(raw_TF, train[m]) for m, raw_TF in raw.items()}
    scaled = {m: _zero_if_absent(study, m, scales[m].apply(raw_TF)) for m, raw_TF in raw.items()}
    modalities = [m for m in raw_features if config.reconstructs(m)]
    unigrams = {m: unigram(raw_features[m][train[m]], n, m) for m, n in study.codes.items() if m in modalities}
    targets = {m: raw_features[m] if m in unigrams else scaled[m] for m in modalities}
    variance_F = frame_pca.variance_F if len(frame_pca.variance_F) else None
    weights = {m: _weights(scales[m], variance_F if m == "video" else None) for m in targets}
    weights |= {m: _code_weights(raw_features[m][train[m]]) for m in unigrams}
    has_components = variance_F is not None and "video" not in unigrams
    n_fixed = raw_features["video"].shape[1] if "video" in raw_features else 0
    inputs, input_scales = _inputs(raw, scaled, scales, study, split, config)
    return FittedFeatures(
        inputs=inputs,
        input_scales=input_scales,
        targets=targets,
        target_weights=weights,
        frame_pca=frame_pca,
        pca_columns=slice(n_fixed, raw["video"].shape[1]) if has_components else slice(0),
        feature_mean={m: scales[m].mean_F for m in targets if m not in unigrams},
        feature_sd={m: scales[m].sd_F for m in targets if m not in unigrams},
        unigram=unigrams,
        facts={
            m: code_stats(raw_features[m][train[m]], unigrams[m])
            if m in unigrams
            else feature_stats(raw[m][train[m]], targets[m][train[m]], weights[m])
            for m in targets
        },
        notes=tuple(
            f"The {m} never changes over the training TRs: it is switched off." for m in study.features if m not in raw
        ),
    )


def _with_frame_components(
    study: Study, raw_features: Mapping[str, Singles], train: Mapping[str, NDArray[np.intp]]
) -> tuple[FramePca, dict[str, Singles]]:
    """Fit components of frames and add them to the video features."""
    if not study.has_pictures or "video" not in raw_features:
        empty = np.zeros(0, np.float32)
        return FramePca(empty, np.zeros((0, 0), np.float32), empty), dict(raw_features)
    frame_pca = fit_frame_pca(study.frames_TKHWC, train["video"], N_FRAME_COMPONENTS)
    video_TF = np.concatenate([raw_features["video"], frame_pca.scores(study.frames_TKHWC)], axis=1)
    return frame_pca, {**raw_features, "video": video_TF}


def _shown_rows(study: Study, modality: str, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the rows in which the stimulus has a modality. Raises DataError if there is none."""
    shown_T = study.shown.get(modality)
    own_rows = rows if shown_T is None else rows[shown_T[rows]]
    if not len(own_rows):
        raise DataError(
            f"No training TR has {modality}: only stimuli that are held out have it.", "Choose another split.fold."
        )
    return own_rows


def _zero_if_absent(study: Study, modality: str, scaled_TF: Singles) -> Singles:
    shown_T = study.shown.get(modality)
    if shown_T is not None:
        scaled_TF[~shown_T] = 0.0
    return scaled_TF


def _varies(rows_RF: Singles) -> bool:
    return bool((rows_RF.max(axis=0) > rows_RF.min(axis=0)).any())


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
    raw: Mapping[str, Floats],
    scaled: Mapping[str, Singles],
    scales: Mapping[str, ColumnScale],
    study: Study,
    split: Split,
    config: Config,
) -> tuple[Mapping[str, Singles], Mapping[str, ColumnScale]]:
    """Return the inputs of the network and their scales: features, or for a dense model pixels instead of video."""
    if config.model.kind == "dense" and study.has_pictures and "video" in raw:
        pixels_TP = study.frames_TKHWC.reshape(len(study.frames_TKHWC), -1).astype(np.float32)
        scales = {**scales, "video": fit_columns(pixels_TP, split.train)}
        raw, scaled = {**raw, "video": pixels_TP}, {**scaled, "video": scales["video"].apply(pixels_TP)}
    return _convolved(raw, study, split, config) if config.data.apply_hrf else (scaled, scales)


def _convolved(
    raw: Mapping[str, Floats], study: Study, split: Split, config: Config
) -> tuple[dict[str, Singles], dict[str, ColumnScale]]:
    """Convolve the features with Glover's HRF, as long as the FIR kernel, within each scan, then scale them."""
    kernel = glover(study.tr_s, config.model.kernel_trs(study.tr_s, len(split.train)) * study.tr_s)
    edges = np.cumsum(study.scan_lengths_trs)[:-1]
    inputs, scales = {}, {}
    for modality, raw_TF in raw.items():
        parts = [convolve_causal(part.astype(np.float64), kernel) for part in np.split(raw_TF, edges)]
        blurred_TF = np.concatenate(parts)
        scales[modality] = fit_columns(blurred_TF, split.train)
        inputs[modality] = scales[modality].apply(blurred_TF)
    return inputs, scales
