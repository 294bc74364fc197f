"""How many TRs the brain lags behind the film: for the whole study, for each third of it, for each subject.

An aligned study lags by the haemodynamic delay in every third. A lag that grows from third to third shows a stretched
stimulus, one that is the same but wrong an offset. T TRs, V voxels, F stimulus series, N series of the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.contract.errors import DataError
from giblet_train.data.study import Study

MAX_LAG_TRS = 20
MAX_DISAGREEMENT_TRS = 2
STIMULUS_SERIES = 12
RESPONSE_SERIES = 20
HIGHPASS_S = 128.0
NULL_SDS = 5.0
SPEED_SDS = 9.0
SPEEDS = np.linspace(0.9, 1.1, 41)
HEMODYNAMIC_DELAY_S = 4.5
MAX_VOXELS = 20_000

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Lag:
    """The best lag of some TRs, positive when the brain follows the film.

    score: mean squared correlation there; chance, spread: mean and standard deviation of the same at circular shifts
    beyond any lag.
    """

    lag_trs: int
    score: float
    chance: float
    spread: float

    @property
    def height(self) -> float:
        """How many standard deviations the score stands above chance."""
        return (self.score - self.chance) / self.spread if self.spread else 0.0

    @property
    def answers(self) -> bool:
        """Whether the score beats chance by NULL_SDS; otherwise the lag says nothing."""
        return self.height > NULL_SDS


@dataclass(frozen=True)
class LagRow:
    """One subject, or the average of all: the whole study and its three thirds."""

    who: str
    whole: Lag
    thirds: tuple[Lag, Lag, Lag]

    @property
    def agrees(self) -> bool:
        """Whether the thirds that answer lie within MAX_DISAGREEMENT_TRS of one another."""
        lags = [third.lag_trs for third in self.thirds if third.answers]
        return not lags or max(lags) - min(lags) <= MAX_DISAGREEMENT_TRS


def lag_table(study: Study) -> tuple[LagRow, ...]:
    """The average subject first, then each subject."""
    stimulus_TF = stimulus_series(study.features, study.tr_s)
    total_TV = np.zeros((), np.float32)
    rows: list[LagRow] = []
    for subject in study.subjects:
        response_TV = _response(study.bold[subject], study.scan_lengths_trs)
        total_TV = total_TV + response_TV
        rows.append(_row(subject, stimulus_TF, response_TV, study.tr_s))
    if len(rows) > 1:
        rows.insert(0, _row("average", stimulus_TF, total_TV, study.tr_s))
    return tuple(rows)


def average_lag(
    features: Mapping[str, Floats], bold: Mapping[str, Floats], scan_lengths_trs: Sequence[int], tr_s: float
) -> Lag:
    """The lag of all subjects' mean response over all TRs."""
    responses = (_response(bold_TV, scan_lengths_trs) for bold_TV in bold.values())
    total_TV = sum(responses, np.float32(0.0))
    response_TN = _leading(highpass(np.asarray(total_TV), tr_s), RESPONSE_SERIES)
    return best_lag(stimulus_series(features, tr_s), response_TN)


def fitting_speed(study: Study) -> float | None:
    """The speed of the film, from 0.9 to 1.1 of its own, at which the average brain follows it; None if at none.

    For a study whose own clock gives no lag. As many speeds are tried, one must beat chance by SPEED_SDS.
    """
    total_TV = sum((_response(bold_TV, study.scan_lengths_trs) for bold_TV in study.bold.values()), np.float32(0.0))
    response_TN = _leading(highpass(np.asarray(total_TV), study.tr_s), RESPONSE_SERIES)
    stimulus_TF = stimulus_series(study.features, study.tr_s)
    places_T = np.arange(len(stimulus_TF))
    fits: list[tuple[float, float]] = []
    for speed in SPEEDS:
        columns = [np.interp(places_T * speed, places_T, column_T) for column_T in stimulus_TF.T]
        lag = best_lag(np.stack(columns, axis=1), response_TN)
        fits.append((lag.height, float(speed)))
    height, fit = max(fits)
    return fit if height > SPEED_SDS else None


def offset_from_lag(lag: Lag, tr_s: float) -> float:
    """The stimulus_offset_s, in whole TRs, that turns a lag measured at offset 0 into the haemodynamic delay.

    Raises DataError when the lag does not beat its null.
    """
    if not lag.answers:
        raise DataError(
            "data.stimulus_offset_s: auto finds no lag that beats chance: brain and film do not follow one another.",
            "State the offset in seconds, or look at `python -m giblet_train data lag`.",
        )
    return (round(HEMODYNAMIC_DELAY_S / tr_s) - lag.lag_trs) * tr_s


def stimulus_series(features: Mapping[str, Floats], tr_s: float) -> NDArray[np.float64]:
    """(T, F): the leading components of picture and of sound, without slow drifts."""
    series = []
    for modality in ("video", "audio"):
        scaled_TF = _scaled(np.asarray(features[modality], np.float64))
        series.append(_leading(highpass(scaled_TF, tr_s), STIMULUS_SERIES))
    return np.concatenate(series, axis=1)


def best_lag(stimulus_TF: Floats, response_TN: Floats, max_lag_trs: int = MAX_LAG_TRS) -> Lag:
    """The lag at which the two sets of series correlate best, beside what circular shifts give."""
    scores_T = circular_scores(stimulus_TF, response_TN)
    limit = min(max_lag_trs, len(scores_T) // 4)
    near = np.r_[scores_T[-limit:], scores_T[: limit + 1]]
    far = scores_T[limit + 1 : -limit]
    return Lag(int(near.argmax()) - limit, float(near.max()), float(far.mean()), float(far.std()))


def circular_scores(stimulus_TF: Floats, response_TN: Floats) -> NDArray[np.float64]:
    """(T,): the mean squared correlation of all pairs of series, the response moved back by 0 to T - 1 TRs."""
    n_trs = len(stimulus_TF)
    stimulus_KF = np.fft.rfft(_scaled(stimulus_TF), axis=0)
    response_KN = np.fft.rfft(_scaled(response_TN), axis=0)
    total_T = np.zeros(n_trs)
    for series_K in stimulus_KF.T:
        total_T += (np.fft.irfft(series_K.conj()[:, None] * response_KN, n_trs, axis=0) ** 2).sum(axis=1)
    return np.asarray(total_T / (n_trs**2 * stimulus_TF.shape[1] * response_TN.shape[1]))


def highpass(series_TF: Floats, tr_s: float, period_s: float = HIGHPASS_S) -> NDArray[np.float64]:
    """The series without their mean and cosines slower than `period_s`, as SPM's discrete cosine filter."""
    n_trs = len(series_TF)
    n_slow = int(2 * n_trs * tr_s / period_s) + 1
    phase = (np.arange(n_trs) + 0.5) * np.pi / n_trs
    basis = np.cos(np.outer(phase, np.arange(min(n_slow, n_trs))))
    basis /= np.linalg.norm(basis, axis=0)
    values = np.asarray(series_TF, np.float64)
    return np.asarray(values - basis @ (basis.T @ values))


def _row(who: str, stimulus_TF: Floats, response_TV: Floats, tr_s: float) -> LagRow:
    response_TN = _leading(highpass(response_TV, tr_s), RESPONSE_SERIES)
    edges = [round(i * len(stimulus_TF) / 3) for i in range(4)]
    first, second, third = (best_lag(stimulus_TF[a:b], response_TN[a:b]) for a, b in pairwise(edges))
    return LagRow(who, best_lag(stimulus_TF, response_TN), (first, second, third))


def _response(bold_TV: Floats, scan_lengths_trs: Sequence[int]) -> NDArray[np.float32]:
    """(T, V): a regular choice of voxels, scaled in each scan."""
    step = max(1, bold_TV.shape[1] // MAX_VOXELS)
    chosen = np.asarray(bold_TV[:, ::step], np.float32)
    parts = np.split(chosen, np.cumsum(scan_lengths_trs)[:-1])
    return np.concatenate([_scaled(part) for part in parts]).astype(np.float32)


def _scaled(series_TF: Floats) -> NDArray[np.float64]:
    centred = np.asarray(series_TF, np.float64) - np.mean(series_TF, axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    return np.asarray(np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-9))


def _leading(series_TF: Floats, count: int) -> NDArray[np.float64]:
    """(T, count): the series along the leading directions, by the eigenvectors of the (T, T) Gram matrix."""
    values, vectors = np.linalg.eigh(series_TF @ series_TF.T)
    order = np.argsort(values)[::-1][: min(count, series_TF.shape[1])]
    return np.asarray(vectors[:, order])
