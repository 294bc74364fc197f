"""Estimate in each run of a study how many TRs the brain lags behind the stimulus, in two ways.

The lag at which the response follows the stimulus itself, and by how much it is later than a response that is learned
from the other runs and predicted from the stimulus. Chance agrees with itself only rarely: a lag that both give is
probable already where neither is certain. T TRs, F stimulus series, V voxels.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.statistics.alignment import NO_PEAK, Peak, agreement, comparable, response_weights
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.lag import (
    FAST_S,
    LEAST_SHIFTS,
    LagRow,
    highpass,
    lag_table,
    mean_response,
    stimulus_series,
)
from giblet_train.data.study import Study

MAX_VOXELS = 600


def run_lag_table(study: Study) -> tuple[LagRow, ...]:
    """Return the row of the average subject in each scan that is long enough for an answer, named by the scan."""
    edges = list(pairwise(np.cumsum([0, *study.scan_lengths_trs]).tolist()))
    late = _lateness(study, edges)
    rows = []
    for n, (name, (first, stop)) in enumerate(zip(study.block_names, edges, strict=False)):
        if stop - first >= 2 * LEAST_SHIFTS:
            row = lag_table(study.part(first, stop))[0]
            rows.append(replace(row, who=name, late_trs=late[n].lag_trs, late_sds=late[n].height))
    return tuple(rows)


def _lateness(study: Study, edges: list[tuple[int, int]]) -> list[Peak]:
    """Return for each run the lag at which it agrees best with the responses that the other runs predict."""
    if len(edges) < 2:
        return [NO_PEAK for _ in edges]
    stimulus_TF = _expected_series(study, edges)
    sample_TV = mean_response(study)
    sample_TV = sample_TV[:, :: max(1, sample_TV.shape[1] // MAX_VOXELS)]
    response_TV = np.concatenate([comparable(sample_TV[first:stop], study.tr_s) for first, stop in edges])
    peaks = []
    for first, stop in edges:
        others_T = np.r_[0:first, stop : len(stimulus_TF)]
        if len(others_T) < LEAST_SHIFTS:
            peaks.append(NO_PEAK)
            continue
        weights_FV = response_weights(stimulus_TF[others_T], response_TV[others_T])
        curve = agreement(response_TV[first:stop], stimulus_TF[first:stop] @ weights_FV)
        peaks.append(curve.peak(study.tr_s))
    return peaks


def _expected_series(study: Study, edges: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Return (T, F): the haemodynamic response expected from the stimuli in each run, with variance 1."""
    series_TF, kernel_K = stimulus_series(study.features, study.tr_s), glover(study.tr_s)
    parts = [highpass(convolve_causal(series_TF[a:b], kernel_K), study.tr_s, FAST_S) for a, b in edges]
    joined_TF = np.concatenate(parts)
    return np.asarray(joined_TF / np.maximum(joined_TF.std(axis=0), 1e-9))
