"""Estimate how many TRs the brain lags behind the film: for the whole study, each third of it, each subject.

An aligned study lags by the haemodynamic delay in every third. A lag that grows from third to third indicates a
stretched stimulus, a constant wrong lag an offset. T TRs, R given TRs, V voxels, F stimulus series, N response series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.rows import Rows
from giblet_train.data.study import Study
from giblet_train.diagnosis.alignment.film import ANSWER_SDS, DELAY_S, is_stretched
from giblet_train.schema.errors import DataError
from giblet_train.schema.records import AlignmentFacts, LagFact

MAX_LAG_S = 90.0
SHOWN = ("video", "audio")
STIMULUS_SERIES = 8
RESPONSE_SERIES = 10
DRIFT_S = 128.0
FAST_S = 64.0
"""What is slower than this says little about when a film began; series that are compared lose it."""
SPEEDS = np.linspace(0.9, 1.1, 41)
LEAST_SHIFTS = 50
"""Of neighbouring shifts, which are much alike, fewer do not show how far chance goes: about 100 TRs are needed."""
MAX_VOXELS = 20_000
MOST_RUNS = 4
"""As many runs are tried in every order: 23 of them."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LagEstimate:
    """Best lag of some TRs."""

    lag_trs: int
    """Positive if the brain follows the film."""
    score: float
    """Mean squared correlation at that lag."""
    chance: float
    """Mean of the score at circular shifts beyond any plausible lag."""
    spread: float
    """Standard deviation of the score at those shifts; 0 if there are fewer than LEAST_SHIFTS."""

    @property
    def height(self) -> float:
        """Return by how many sd the score exceeds chance."""
        return (self.score - self.chance) / self.spread if self.spread else 0.0

    @property
    def is_significant(self) -> bool:
        """Return True if the score exceeds chance by ANSWER_SDS; otherwise the lag is meaningless."""
        return self.height > ANSWER_SDS

    @property
    def fact(self) -> LagFact:
        """Return the estimate as a record."""
        return LagFact(lag_trs=self.lag_trs, sds=self.height, answers=self.is_significant)


@dataclass(frozen=True)
class FilmClock:
    """Speed of the film that fits best."""

    speed: float
    """Speed at which film rows are read, 1 is their own."""
    lag: LagEstimate
    """Best lag at that speed."""

    def lag_at(self, tr: float) -> float:
        """Return by how many TRs the brain lags behind the film's own clock at TR `tr`."""
        return tr - self.speed * (tr - self.lag.lag_trs)


@dataclass(frozen=True)
class LagRow:
    """Lags of one subject, or of the average of all."""

    who: str
    whole: LagEstimate
    """Lag over all given TRs."""
    thirds: tuple[LagEstimate, ...]
    """Lag in each third of them."""
    clock: FilmClock
    """Best-fitting speed."""
    clock_lags_trs: tuple[float, ...]
    """Lag at that speed in the middle of each third."""
    reach_trs: int
    """Largest lag tried."""
    reading: str = ""
    """For a film without an answer: the other reading that fits best, "" if none does."""
    reading_lag: LagEstimate | None = None
    """Lag of that reading, or None."""
    late_trs: int = 0
    """For a run: TRs by which it follows later than the other runs predict."""
    late_sds: float = 0.0
    """Standard deviations by which that exceeds chance; 0 if it was not measured."""

    @property
    def facts(self) -> AlignmentFacts:
        """Return the row as a record."""
        return AlignmentFacts(
            whole=self.whole.fact,
            thirds=tuple(third.fact for third in self.thirds),
            reach_trs=self.reach_trs,
            speed=self.clock.speed,
            speed_sds=self.clock.lag.height,
            speed_lags_trs=self.clock_lags_trs,
            reading=self.reading,
            reading_sds=self.reading_lag.height if self.reading_lag else None,
        )

    @property
    def agrees(self) -> bool:
        """Return True unless film and brain clearly run at different speeds."""
        return not is_stretched(self.facts)


def lag_table(study: Study) -> tuple[LagRow, ...]:
    """Return the row of the average subject, then one per subject."""
    stimulus_TF = stimulus_series(study.features, study.tr_s)
    total_TV = np.zeros((), np.float32)
    rows: list[LagRow] = []

    def row(who: str, response_TV: Floats, present_T: NDArray[np.bool_]) -> LagRow:
        response_TN = response_series(response_TV, _blocks(study.scan_lengths_trs), study.tr_s)
        response_TN[~present_T] = 0.0
        trs = np.flatnonzero(present_T)
        scans = study.scan_lengths_trs
        return lag_row(who, stimulus_TF, response_TN, trs, study.tr_s, scans, len(study.spans) < 2)

    anyone_T = np.zeros(study.n_trs, bool)
    for subject in study.subjects:
        response_TV = _response(study.bold[subject], study.scan_lengths_trs)
        total_TV = total_TV + response_TV
        anyone_T |= study.present_T(subject)
        rows.append(row(subject, response_TV, study.present_T(subject)))
    return tuple([row("average", total_TV, anyone_T), *rows] if len(rows) > 1 else rows)


def mean_response(study: Study) -> NDArray[np.float32]:
    """Return (T, V): the mean over the subjects that have a row, of a regular sample of voxels scaled in each scan."""
    total_TV, n_T = np.zeros((), np.float32), np.zeros(study.n_trs, np.float32)
    for subject in study.subjects:
        present_T = study.present_T(subject)
        total_TV = total_TV + _response(study.bold[subject], study.scan_lengths_trs) * present_T[:, None]
        n_T += present_T
    return np.asarray(total_TV / np.maximum(1, n_T)[:, None], np.float32)


def average_lag(
    features: Mapping[str, Floats], bold: Mapping[str, Floats], scan_lengths_trs: Sequence[int], tr_s: float
) -> LagEstimate:
    """Return the lag of all subjects' mean response over all TRs."""
    total_TV = sum((_response(bold_TV, scan_lengths_trs) for bold_TV in bold.values()), np.float32(0.0))
    response_TN = response_series(np.asarray(total_TV), _blocks(scan_lengths_trs), tr_s)
    return best_lag(stimulus_series(features, tr_s), response_TN, tr_s)


def fitting_clock(stimulus_TF: Floats, response_TN: Floats, tr_s: float) -> FilmClock:
    """Find the speed, among SPEEDS, and the lag at which the brain follows the film best."""
    places_T = np.arange(len(stimulus_TF))
    fits = []
    for speed in SPEEDS.tolist():
        series_TF = np.empty_like(stimulus_TF, dtype=np.float64)
        for place, column_T in enumerate(stimulus_TF.T):
            series_TF[:, place] = np.interp(places_T * speed, places_T, column_T)
        fits.append(FilmClock(speed, best_lag(series_TF, response_TN, tr_s)))
    return max(fits, key=lambda clock: clock.lag.height)


def offset_from_lag(lag: LagEstimate, tr_s: float) -> float:
    """Return the stimulus_offset_s, in whole TRs, that turns a lag measured at offset 0 into the haemodynamic delay.

    Raises DataError if the lag does not exceed its null.
    """
    if not lag.is_significant:
        raise DataError(
            "data.stimulus_offset_s: auto finds no lag that beats chance: brain and film do not follow one another.",
            "State the offset in seconds, or look at `python -m giblet_train data lag`.",
        )
    return (round(DELAY_S / tr_s) - lag.lag_trs) * tr_s


def perceived(features: Mapping[str, Floats]) -> tuple[str, ...]:
    """Return the spaces whose lag is measured: picture and sound if they vary, or whatever there is if neither does."""
    varying = tuple(m for m, x_TF in features.items() if (x_TF.max(axis=0) > x_TF.min(axis=0)).any())
    return tuple(m for m in SHOWN if m in varying) or varying or tuple(features)


def stimulus_series(features: Mapping[str, Floats], tr_s: float) -> NDArray[np.float64]:
    """Return (T, F): leading components of picture and sound without slow drifts; all features have equal weight."""
    return leading_series({m: _scaled(np.asarray(features[m], np.float64)) for m in perceived(features)}, tr_s)


def leading_series(features: Mapping[str, Floats], tr_s: float) -> NDArray[np.float64]:
    """Return the leading components of features that are weighted by their variance."""
    return np.concatenate(
        [_leading(highpass(features[m], tr_s, FAST_S), STIMULUS_SERIES) for m in perceived(features)], axis=1
    )


def response_series(
    response_RV: Floats, blocks: Sequence[tuple[int, int]], tr_s: float, n_trs: int | None = None
) -> NDArray[np.float64]:
    """Return (T, N): leading components of responses, scaled by their variance, 0 outside `blocks`.

    Args:
        response_RV: Rows of the blocks, one block after another; each loses its slow drifts.
        n_trs: T, if the blocks do not cover all of it.
    """
    series_TN = np.zeros((n_trs or len(response_RV), RESPONSE_SERIES))
    leading_RN = _leading(filtered(response_RV, blocks, tr_s, FAST_S), RESPONSE_SERIES)
    series_TN[np.concatenate([np.arange(*block) for block in blocks]), : leading_RN.shape[1]] = leading_RN
    return series_TN


def filtered(
    response_RV: Floats, blocks: Sequence[tuple[int, int]], tr_s: float, period_s: float = DRIFT_S
) -> NDArray[np.float64]:
    """Filter each block of (R, V) responses with a high pass."""
    edges = np.cumsum([0, *(stop - first for first, stop in blocks)])
    return np.concatenate([highpass(response_RV[a:b], tr_s, period_s) for a, b in pairwise(edges)])


def reach_trs(n_trs: int, tr_s: float) -> int:
    """Return the largest lag to try, either way: MAX_LAG_S, but half of all shifts are left for the null."""
    return min(round(MAX_LAG_S / tr_s), n_trs // 4)


def best_lag(stimulus_TF: Floats, response_TN: Floats, tr_s: float) -> LagEstimate:
    """Find the lag with the best correlation of two sets of series, and its null from circular shifts."""
    scores_T = circular_scores(stimulus_TF, response_TN)
    limit = reach_trs(len(scores_T), tr_s)
    near = np.r_[scores_T[-limit:], scores_T[: limit + 1]]
    far = scores_T[limit + 1 : -limit]
    spread = float(far.std()) if len(far) >= LEAST_SHIFTS else 0.0
    return LagEstimate(int(near.argmax()) - limit, float(near.max()), float(far.mean()), spread)


def circular_scores(stimulus_TF: Floats, response_TN: Floats) -> NDArray[np.float64]:
    """Return (T,): mean squared correlation of all pairs of series, with the response moved back by 0 to T - 1 TRs.

    A response series is weighted by its variance; TRs at which all are 0 are skipped.
    """
    n_trs, n_rows = len(stimulus_TF), int((response_TN != 0).any(axis=1).sum())
    power = float((response_TN**2).sum())
    stimulus_KF, response_KN = np.fft.rfft(_scaled(stimulus_TF), axis=0), np.fft.rfft(response_TN, axis=0)
    total_T = np.zeros(n_trs)
    for series_K in stimulus_KF.T:
        total_T += (np.fft.irfft(series_K.conj()[:, None] * response_KN, n_trs, axis=0) ** 2).sum(axis=1)
    return np.asarray(total_T / max(1e-300, n_rows * power * stimulus_TF.shape[1]))


def highpass(series_TF: Floats, tr_s: float, period_s: float = DRIFT_S) -> NDArray[np.float64]:
    """Remove the mean and cosines slower than `period_s`, like SPM's discrete cosine filter."""
    n_trs = len(series_TF)
    n_slow = int(2 * n_trs * tr_s / period_s) + 1
    phase = (np.arange(n_trs) + 0.5) * np.pi / n_trs
    basis = np.cos(np.outer(phase, np.arange(min(n_slow, n_trs))))
    basis /= np.linalg.norm(basis, axis=0)
    values = np.asarray(series_TF, np.float64)
    return np.asarray(values - basis @ (basis.T @ values))


def lag_row(
    who: str,
    stimulus_TF: Floats,
    response_TN: Floats,
    rows: NDArray[np.intp],
    tr_s: float,
    scan_lengths_trs: Sequence[int],
    one_film: bool = True,
) -> LagRow:
    """Analyse one response: its lag over `rows`, in each third of them, and the best-fitting clock.

    If there is no answer, the film is also read backwards and with its runs in other orders. Neither speed nor order is
    tried over several stimuli, which have no common clock.
    """
    whole = best_lag(stimulus_TF, response_TN, tr_s)
    clock = fitting_clock(stimulus_TF, response_TN, tr_s) if one_film else FilmClock(1.0, whole)
    thirds = np.array_split(rows, 3)
    others = readings(stimulus_TF, scan_lengths_trs) if one_film and not whole.is_significant else {}
    lags = {reading: best_lag(read_TF, response_TN, tr_s) for reading, read_TF in others.items()}
    reading = max(lags, key=lambda name: lags[name].height, default="")
    return LagRow(
        who=who,
        whole=whole,
        thirds=tuple(best_lag(stimulus_TF, _only(part, response_TN), tr_s) for part in thirds),
        clock=clock,
        clock_lags_trs=tuple(clock.lag_at(float(part.mean())) for part in thirds),
        reach_trs=reach_trs(len(stimulus_TF), tr_s),
        reading=reading,
        reading_lag=lags.get(reading),
    )


def readings(stimulus_TF: Floats, scan_lengths_trs: Sequence[int]) -> dict[str, Floats]:
    """Return the wrong orders a film may have, described in words -> its series: backwards, or its runs permuted."""
    runs = np.split(stimulus_TF, np.cumsum(scan_lengths_trs)[:-1])
    series = {"backwards": stimulus_TF[::-1]}
    if len(runs) > 1:
        series["backwards in each run"] = np.concatenate([run_TF[::-1] for run_TF in runs])
    if len(runs) <= MOST_RUNS:
        for order in list(permutations(range(len(runs))))[1:]:
            order_text = f"with its runs in the order {', '.join(str(n + 1) for n in order)}"
            series[order_text] = np.concatenate([runs[n] for n in order])
    return series


def _only(rows: NDArray[np.intp], response_TN: Floats) -> Floats:
    """Return the responses at some TRs, 0 elsewhere."""
    only_TN = np.zeros_like(response_TN)
    only_TN[rows] = response_TN[rows] - response_TN[rows].mean(axis=0)
    return only_TN


def _blocks(scan_lengths_trs: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(np.cumsum([0, *scan_lengths_trs]).tolist()))


def _response(bold_TV: Rows, scan_lengths_trs: Sequence[int]) -> NDArray[np.float32]:
    """Return (T, V): a regular sample of voxels, scaled in each scan."""
    step = max(1, bold_TV.shape[1] // MAX_VOXELS)
    sample_TV = np.asarray(bold_TV[:, ::step], np.float32)
    parts = np.split(sample_TV, np.cumsum(scan_lengths_trs)[:-1])
    return np.concatenate([_scaled(part) for part in parts]).astype(np.float32)


def _scaled(series_TF: Floats) -> NDArray[np.float64]:
    centred = np.asarray(series_TF, np.float64) - np.mean(series_TF, axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    return np.asarray(np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-9))


def _leading(series_TF: Floats, count: int) -> NDArray[np.float64]:
    """Project on the leading directions, (T, count or fewer), from the eigenvectors of the smaller Gram matrix.

    Empty directions are left out.
    """
    n_trs, n_series = series_TF.shape
    if n_series < n_trs:
        values, vectors = np.linalg.eigh(series_TF.T @ series_TF)
    else:
        values, vectors = np.linalg.eigh(series_TF @ series_TF.T)
    order = np.argsort(values)[::-1][:count]
    order = order[values[order] > 1e-9 * max(1e-300, values.max())]
    return np.asarray(series_TF @ vectors[:, order] if n_series < n_trs else vectors[:, order] * np.sqrt(values[order]))
