"""Film against brain, and brain against brain, over a split's training TRs, measured before the first step.

`diagnosis.alignment.film` and `diagnosis.alignment.subjects` judge it. Only training TRs of the brain are used; of the
film all TRs are used, because what a brain follows may come before them. Nothing is fitted that a model will see.
T TRs, R training TRs, V voxels.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.statistics.film_predictivity import prediction_z_score
from giblet_train.data.statistics.lag import (
    FAST_S,
    LEAST_SHIFTS,
    Floats,
    best_lag,
    filtered,
    lag_row,
    leading_series,
    perceived,
    response_series,
)
from giblet_train.data.statistics.subject_agreement import leave_one_out_agreement, split_half_reliability
from giblet_train.diagnosis.alignment.film import ANSWER_SDS, CERTAIN_SDS
from giblet_train.schema.records import AgreementFact, AlignmentFacts, LagFact

MAX_VOXELS = 4096


def alignment_of(data: PreparedSplit) -> AlignmentFacts | None:
    """Measure the lag of the mean response in responsive voxels, over all training TRs and in each third of them.

    Also measures how well subjects agree. Returns None if values are not finite; the sanity checks report that.
    """
    split, tr_s = data.split, data.study.tr_s
    voxels = _sample_responsive(data)
    halves = [_mean_response(data, subjects, voxels) for subjects in (data.subjects[::2], data.subjects[1::2])]
    n_halves = [_n_present_R(data, subjects) for subjects in (data.subjects[::2], data.subjects[1::2])]
    mean_RV = (n_halves[0] * halves[0] + n_halves[1] * halves[1]) / np.maximum(1, n_halves[0] + n_halves[1])
    features = _weighted_features(data)
    if not np.isfinite(mean_RV).all() or not all(np.isfinite(features[m]).all() for m in perceived(features)):
        return None
    stimulus_TF = leading_series(features, tr_s)
    response_TN = response_series(mean_RV, split.train_blocks, tr_s, split.n_trs)
    scans, one_film = data.study.scan_lengths_trs, len(data.study.spans) < 2
    row = lag_row("average", stimulus_TF, response_TN, split.train, tr_s, scans, one_film)
    if not one_film:
        # A third of the rows holds parts of several stimuli: noise in it agrees with some far lag too often.
        row = dataclasses.replace(row, thirds=tuple(dataclasses.replace(t, spread=0.0) for t in row.thirds))
    facts = replace(row.facts, runs=_run_lags(data, stimulus_TF, response_TN))
    if len(data.subjects) < 2:
        return facts
    reliability = split_half_reliability(*(filtered(half_RV, split.train_blocks, tr_s, FAST_S) for half_RV in halves))
    to_answer = (ANSWER_SDS + CERTAIN_SDS) * row.whole.spread * stimulus_TF.shape[1]
    return replace(
        facts,
        responsive_part=float(data.responsive_V.mean()),
        shared=reliability,
        least_part=to_answer / reliability if reliability > 0 and to_answer else None,
        foreseen_sds=None
        if row.whole.is_significant
        else prediction_z_score(data.targets or features, response_TN[split.train], split.train, tr_s),
        subjects=_agreements(data, voxels, mean_RV),
    )


def _run_lags(data: PreparedSplit, stimulus_TF: Floats, response_TN: Floats) -> dict[str, LagFact]:
    """Return the lag within each run with enough training TRs; of a study with several runs only."""
    edges = list(pairwise(np.cumsum([0, *data.study.scan_lengths_trs]).tolist()))
    names = data.study.block_names or [f"scan {n}" for n in range(1, len(edges) + 1)]
    lags = {}
    for name, (first, stop) in zip(names, edges, strict=True):
        n_measured = int((response_TN[first:stop] != 0).any(axis=1).sum())
        if len(edges) > 1 and stop - first >= 2 * LEAST_SHIFTS and n_measured >= LEAST_SHIFTS:
            lags[name] = best_lag(stimulus_TF[first:stop], response_TN[first:stop], data.study.tr_s).fact
    return lags


def _weighted_features(data: PreparedSplit) -> dict[str, NDArray[np.floating[Any]]]:
    """Return the features to follow: those that are reconstructed, as their loss weighs them, or else all inputs."""
    if data.targets:
        return {m: x_TF * np.sqrt(data.target_weights[m]) for m, x_TF in data.targets.items()}
    return {m: data.input_scales[m].apply(data.study.features[m]) for m in data.inputs}


def _sample_responsive(data: PreparedSplit) -> NDArray[np.intp]:
    """Return a regular sample of responsive voxels."""
    voxels = np.flatnonzero(data.responsive_V) if data.responsive_V.any() else np.arange(data.n_voxels)
    return voxels[:: math.ceil(len(voxels) / MAX_VOXELS)]


def _mean_response(data: PreparedSplit, subjects: tuple[str, ...], voxels: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return (R, V'): the mean over scaled subjects, read one at a time."""
    mean_RV = np.zeros((len(data.split.train), len(voxels)), np.float32)
    for subject in subjects:
        mean_RV += _scaled_response(data, subject, voxels)
    return np.asarray(mean_RV / np.maximum(1, _n_present_R(data, subjects)), np.float32)


def _n_present_R(data: PreparedSplit, subjects: tuple[str, ...]) -> NDArray[np.float32]:
    """Return (R, 1): how many of the subjects have each training TR."""
    train = data.split.train
    present = [data.present[s][train] if data.present else np.ones(len(train), bool) for s in subjects]
    return np.asarray(np.sum([np.zeros(len(train)), *present], axis=0)[:, None], np.float32)


def _scaled_response(data: PreparedSplit, subject: str, voxels: NDArray[np.intp]) -> NDArray[np.float32]:
    rows_RV = data.bold[subject][data.split.train[:, None], voxels]
    return np.asarray(rows_RV / np.float32(max(float(rows_RV.std()), 1e-9)))


def _agreements(data: PreparedSplit, voxels: NDArray[np.intp], mean_RV: Floats) -> dict[str, AgreementFact]:
    """Compare each subject with the mean of the others. Subjects are read again, one at a time, to save memory."""
    blocks, tr_s, n = data.split.train_blocks, data.study.tr_s, len(data.subjects)
    total_RV = n * filtered(mean_RV, blocks, tr_s)
    agreements = {}
    for subject in data.subjects:
        own_RV = filtered(_scaled_response(data, subject, voxels), blocks, tr_s)
        agreements[subject] = leave_one_out_agreement(own_RV, total_RV - own_RV, data.split.train, data.split.n_trs)
    return agreements
