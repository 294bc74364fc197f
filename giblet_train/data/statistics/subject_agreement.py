"""Subjects against one another: who runs apart from the others, who is a copy of somebody, how much they all share.

Brains that saw one film agree far better with one another than with any simple series of the film, so a subject that
is shifted by a few TRs shows here first. T TRs, R of them that are looked at, V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.rows import Rows
from giblet_train.data.statistics.lag import LEAST_SHIFTS, RESPONSE_SERIES, highpass
from giblet_train.data.study import Study
from giblet_train.schema.records import AgreementFact

MAX_VOXELS = 3000
COPY_CORRELATION = 0.95
LEAST_OVERLAP = 0.25
MAD_TO_SD = 1.4826
UNSTEADY_TRS = 10
FEWEST_COMMON_TRS = 20

Floats = NDArray[np.floating[Any]]


def subject_agreements(study: Study) -> dict[str, AgreementFact]:
    """Compare each subject with the mean of the others over all TRs; empty for a single subject."""
    responses = {s: _response(study.bold[s], study) for s in study.subjects}
    total_TV = np.sum(list(responses.values()), axis=0)
    if len(responses) < 2:
        return {}
    n_present_T = np.sum([study.present_T(s) for s in responses], axis=0)
    agreements = {}
    for subject, own_TV in responses.items():
        rows = np.flatnonzero(study.present_T(subject) & (n_present_T > 1))
        others_TV = total_TV - own_TV
        if len(rows) >= LEAST_SHIFTS or not study.is_partial:
            agreements[subject] = leave_one_out_agreement(own_TV[rows], others_TV[rows], rows, study.n_trs)
    return agreements


def leave_one_out_agreement(own_RV: Floats, others_RV: Floats, rows: NDArray[np.intp], n_trs: int) -> AgreementFact:
    """Find the circular shift at which one response agrees best with another, voxel by voxel.

    Both are known only at `rows` of n_trs, so a shift leaves fewer TRs to compare. The spread over shifts is a median
    deviation, which a few good shifts do not widen. Too few shifts give 0.
    """
    score_T = _at_each_shift(_of_length_one(own_RV), _of_length_one(others_RV), rows, n_trs)
    score_T -= np.median(score_T)
    spread = MAD_TO_SD * float(np.median(np.abs(score_T)))
    if n_trs < 2 * LEAST_SHIFTS or not spread:
        return AgreementFact(shift_trs=0, sds=0.0, in_step_sds=0.0)
    best = int(score_T.argmax())
    return AgreementFact(
        shift_trs=best if best <= n_trs // 2 else best - n_trs,
        sds=float(score_T[best]) / spread,
        in_step_sds=float(score_T[0]) / spread,
    )


def split_half_reliability(half_RV: Floats, other_RV: Floats) -> float:
    """Return the share of variance of the mean's leading series that two halves of the subjects have in common.

    Directions come from one half and the agreement from the other, so noise shares nothing on average.
    """
    mean_RV = (half_RV + other_RV) / 2
    parts = []
    for x_RV, y_RV in ((half_RV, other_RV), (other_RV, half_RV)):
        values, axes_RN = np.linalg.eigh(x_RV @ x_RV.T)
        leading_RN = axes_RN[:, -RESPONSE_SERIES:] / np.sqrt(np.maximum(values[-RESPONSE_SERIES:], 1e-12))
        direction_VN = x_RV.T @ leading_RN
        mean_RN = mean_RV @ direction_VN
        parts.append(((x_RV @ direction_VN) * (y_RV @ direction_VN)).sum() / max(1e-12, (mean_RN**2).sum()))
    return float(np.mean(parts))


def duplicate_subjects(study: Study) -> tuple[tuple[str, str, float], ...]:
    """Return pairs of subjects whose responses are nearly equal, with their mean correlation over voxels.

    The first volumes are left out: before the steady state all brains change alike.
    """
    first = min(UNSTEADY_TRS, study.n_trs // 4)
    responses = {s: _response(study.bold[s], study) for s in study.subjects}
    pairs = []
    for a, b in combinations(responses, 2):
        rows = first + np.flatnonzero((study.present_T(a) & study.present_T(b))[first:])
        if len(rows) >= FEWEST_COMMON_TRS:
            own_RV, other_RV = (_of_length_one(responses[s][rows]) for s in (a, b))
            pairs.append((a, b, float((own_RV * other_RV).sum(axis=0).mean())))
    return tuple(pair for pair in pairs if pair[2] > COPY_CORRELATION)


def _at_each_shift(own_RV: Floats, others_RV: Floats, rows: NDArray[np.intp], n_trs: int) -> NDArray[np.float64]:
    """Return (T,): agreement with one response moved back by 0 to T - 1 TRs, unbiased by the overlap."""
    own_TV, others_TV = np.zeros((2, n_trs, own_RV.shape[1]))
    own_TV[rows], others_TV[rows] = own_RV, others_RV
    looked_T = np.zeros(n_trs)
    looked_T[rows] = 1.0
    spectrum_K = (np.fft.rfft(others_TV, axis=0).conj() * np.fft.rfft(own_TV, axis=0)).mean(axis=1)
    overlap_T = np.fft.irfft(np.abs(np.fft.rfft(looked_T)) ** 2, n_trs) / len(rows)
    return np.asarray(np.fft.irfft(spectrum_K, n_trs) / np.sqrt(np.maximum(overlap_T, LEAST_OVERLAP)))


def _response(bold_TV: Rows, study: Study) -> NDArray[np.float64]:
    """Return (T, V'): a regular sample of voxels without drifts, each of length 1."""
    step = max(1, bold_TV.shape[1] // MAX_VOXELS)
    sample_TV = np.asarray(bold_TV[:, ::step], np.float64)
    parts: Sequence[NDArray[np.float64]] = np.split(sample_TV, np.cumsum(study.scan_lengths_trs)[:-1])
    return _of_length_one(np.concatenate([highpass(part, study.tr_s) for part in parts]))


def _of_length_one(series_RV: Floats) -> NDArray[np.float64]:
    return np.asarray(series_RV / np.maximum(np.linalg.norm(series_RV, axis=0), 1e-12), np.float64)
