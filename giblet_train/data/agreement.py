"""Subjects against one another: who lags behind the others, and who is a copy of somebody.

Brains that saw one film agree far better with one another than with any simple series of the film, so a subject that
is shifted by a few TRs shows here first. T TRs, V voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.lag import highpass
from giblet_train.data.study import Study

MAX_SHIFT_TRS = 10
MAX_VOXELS = 3000
COPY_CORRELATION = 0.95
NULL_SDS = 5.0


@dataclass(frozen=True)
class Shift:
    """By how many TRs a subject follows the mean of the others. answers: whether the agreement beats chance."""

    subject: str
    shift_trs: int
    correlation: float
    answers: bool


def subject_shifts(study: Study) -> tuple[Shift, ...]:
    """Each subject's shift against the mean of the others; empty for a single subject."""
    responses = {s: _response(study.bold[s], study) for s in study.subjects}
    total_TV = np.sum(list(responses.values()), axis=0)
    if len(responses) < 2:
        return ()
    return tuple(_shift(subject, own_TV, total_TV - own_TV) for subject, own_TV in responses.items())


def copies(study: Study) -> tuple[tuple[str, str, float], ...]:
    """Pairs of subjects whose responses are nearly equal, with their mean correlation over voxels."""
    responses = {s: _response(study.bold[s], study) for s in study.subjects}
    pairs = ((a, b, float((responses[a] * responses[b]).sum(axis=0).mean())) for a, b in combinations(responses, 2))
    return tuple(pair for pair in pairs if pair[2] > COPY_CORRELATION)


def _shift(subject: str, own_TV: NDArray[np.float64], others_TV: NDArray[np.float64]) -> Shift:
    others_TV = others_TV / np.maximum(np.linalg.norm(others_TV, axis=0), 1e-12)
    spectrum = np.fft.rfft(others_TV, axis=0).conj() * np.fft.rfft(own_TV, axis=0)
    scores_T = np.fft.irfft(spectrum.mean(axis=1), len(own_TV))
    limit = min(MAX_SHIFT_TRS, len(scores_T) // 4)
    near = np.r_[scores_T[-limit:], scores_T[: limit + 1]]
    far = scores_T[limit + 1 : -limit]
    best = int(near.argmax())
    answers = bool(near[best] > far.mean() + NULL_SDS * far.std())
    return Shift(subject, best - limit, float(near[best]), answers)


def _response(bold_TV: NDArray[np.floating[Any]], study: Study) -> NDArray[np.float64]:
    """(T, V'): a regular choice of voxels, without drifts, of length 1 each."""
    step = max(1, bold_TV.shape[1] // MAX_VOXELS)
    chosen = np.asarray(bold_TV[:, ::step], np.float64)
    parts: Sequence[NDArray[np.float64]] = np.split(chosen, np.cumsum(study.scan_lengths_trs)[:-1])
    filtered = np.concatenate([highpass(part, study.tr_s) for part in parts])
    return np.asarray(filtered / np.maximum(np.linalg.norm(filtered, axis=0), 1e-12))
