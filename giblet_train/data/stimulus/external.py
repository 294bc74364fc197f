"""Features of the film that a lab brings in the place of giblet's own: from an installed extractor, or from a file.

An extractor is a function that a package offers under the entry point group `giblet.features`. It is given a
`FilmTimeline` and returns a row for each TR: (T, F) amounts, or (T, N, B) codes at N moments of a TR in B books.
T TRs, N moments or rows of a file, F features, B books of codes, Q codes in a book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.stimulus.code_frequencies import looks_categorical
from giblet_train.data.stimulus.video import film_seconds
from giblet_train.schema.config import FeatureSource, nearest
from giblet_train.schema.errors import DataError

GROUP = "giblet.features"
OWN = {"encodec": "giblet_train.data.stimulus.encodec:extract"}
"""Extractors that come with giblet, next to those that packages offer."""

LONGER_SHARE, LONGER_TRS = 0.02, 2
"""How much longer than the film a file may be: rates are rounded and credits cut."""

SLACK_S = 0.1


@dataclass(frozen=True)
class FilmTimeline:
    """Input of an extractor: the TRs to describe and the film."""

    film: Path | None
    """Path of the film; None if the stimulus has none."""
    tr_s: float
    """Seconds per TR."""
    n_trs: int
    """TRs to describe."""
    start_s: float
    """Film second at which the first TR begins."""
    segments: tuple[Segment, ...]
    """Annotations."""


class CodesAsAmounts(DataError):
    """Features that are codes, brought as amounts."""

    finding = "codes_as_numbers"
    """Name of the finding in `data check`."""


Extractor = Callable[[FilmTimeline], NDArray[Any]]


def external_features(
    modality: str, source: FeatureSource, file: Path | None, timeline: FilmTimeline
) -> NDArray[np.float32]:
    """Return (T, F) amounts, or (T, B·Q) shares of a TR's moments at which each book has each code.

    Raises DataError if the extractor is not installed, or for a wrong shape or values that are not finite.

    Args:
        file: Path of `source.file`.
    """
    where = f"data.features.{modality}"
    values = _from_file(where, source, file, timeline) if file else _extracted(where, source, timeline)
    if source.codes is None:
        return _amounts(where, values, timeline.n_trs)
    return _shares(where, values, timeline.n_trs, source.codes)


def identity(source: FeatureSource) -> dict[str, Any]:
    """Return the identity of a source: an extractor has its package's version, so that a new version runs again.

    Raises DataError if the extractor is not installed.
    """
    version = None
    if source.extractor is not None and source.extractor not in OWN:
        package = _entry_point(source.extractor).dist
        version = f"{package.name} {package.version}" if package else None
    return {
        "extractor": source.extractor,
        "package": version,
        "file": source.file is not None,
        "rows_per_s": source.rows_per_s,
        "codes": source.codes,
    }


def _extracted(where: str, source: FeatureSource, timeline: FilmTimeline) -> NDArray[Any]:
    name = source.extractor or ""
    try:
        return np.asarray(_extractor(name)(timeline))
    except DataError:
        raise
    except Exception as error:  # another's code: whatever it raises is its answer
        raise DataError(
            f"{where}: the extractor {name!r} failed: {type(error).__name__}: {error}.", "Fix it, or bring a file."
        ) from error


def _extractor(name: str) -> Extractor:
    if name in OWN:
        module, _, function = OWN[name].partition(":")
        extractor: Extractor = getattr(import_module(module), function)
        return extractor
    loaded: Extractor = _entry_point(name).load()
    return loaded


def _entry_point(name: str) -> EntryPoint:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name in points:
        return points[name]
    names = sorted({*points, *OWN})
    raise DataError(
        f"There is no extractor called {name!r}{nearest(name, names) or '.'}",
        f"Available: {', '.join(names)}. Install the package that offers it under the entry point group {GROUP}.",
    )


def _from_file(where: str, source: FeatureSource, path: Path, timeline: FilmTimeline) -> NDArray[Any]:
    """Average the rows of a .npy file, (N, F) or (N,), over each TR; of codes, return all moments.

    Row n covers seconds n / rows_per_s to (n + 1) / rows_per_s of the film; without a rate there is one row per TR.
    """
    rows_NF = _load(where, path)
    rate_hz = source.rows_per_s or 1.0 / timeline.tr_s
    _check_duration(where, path, len(rows_NF), rate_hz, timeline)
    if source.codes is None:
        _check_amounts(where, path, rows_NF)
    edges_T1 = (timeline.start_s + timeline.tr_s * np.arange(timeline.n_trs + 1, dtype=np.float64)) * rate_hz
    return _means(rows_NF, edges_T1) if source.codes is None else _moments(rows_NF, edges_T1)


def _check_duration(where: str, path: Path, n_rows: int, rate_hz: float, timeline: FilmTimeline) -> None:
    """Raise DataError if the rows end before the last TR, or well after the film."""
    rows_s, needed_s = n_rows / rate_hz, timeline.start_s + timeline.n_trs * timeline.tr_s
    have = f"{where}: {path.name} has {n_rows} rows at {rate_hz:g} a second, {rows_s:.1f} s"
    if rows_s + SLACK_S < needed_s:
        raise DataError(
            f"{have} of the film; {needed_s:.1f} s are needed.",
            "State rows_per_s, or split.usable_trs; rows are never stretched.",
        )
    film_s = None if timeline.film is None else film_seconds(timeline.film)
    if film_s is not None and rows_s > film_s * (1 + LONGER_SHARE) + LONGER_TRS * timeline.tr_s:
        raise DataError(
            f"{have}, but the film lasts {film_s:.1f} s.",
            f"State the rate of the file: rows_per_s: {n_rows / film_s:.4g} would fit the whole film.",
        )


def _check_amounts(where: str, path: Path, rows_NF: NDArray[Any]) -> None:
    """Raise DataError for rows that are not finite, and for codes, whose mean would mean nothing."""
    bad_N = np.flatnonzero(~np.isfinite(rows_NF).all(axis=1))
    if len(bad_N):
        raise DataError(
            f"{where}: {len(bad_N)} rows of {path.name} are not finite, first row {bad_N[0]}.",
            "Fix them before you use the file.",
        )
    if looks_categorical(rows_NF):
        raise CodesAsAmounts(
            f"{where}: {path.name} has whole numbers from {rows_NF.min():g} to {rows_NF.max():g} that are unrelated "
            "from one row to the next. They look like codes, whose mean means nothing.",
            f"If they are codes, set {where}.codes to the size of a book. If they are amounts, subtract their mean.",
        )


def _load(where: str, path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{where}: {path} is no .npy file: {error}.", "Write it with numpy.save.") from None
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind not in "iufb":
        raise DataError(f"{where}: {path} is not rows of numbers.", "Write (rows, features) with numpy.save.")
    return array.reshape(len(array), -1)


def _means(rows_NF: NDArray[Any], edges_T1: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return (T, F) means of the rows between the edges; a row in two TRs counts by its part in each."""
    total_NF = np.concatenate([np.zeros((1, rows_NF.shape[1])), np.cumsum(rows_NF, axis=0, dtype=np.float64)])
    edges_T1 = edges_T1.clip(0, len(rows_NF))
    whole_T1 = np.minimum(edges_T1.astype(int), len(rows_NF) - 1)
    reached_T1F = total_NF[whole_T1] + (edges_T1 - whole_T1)[:, None] * rows_NF[whole_T1]
    return np.asarray(np.diff(reached_T1F, axis=0) / np.diff(edges_T1)[:, None])


def _moments(rows_NF: NDArray[Any], edges_T1: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Return (T, N, B) the rows at N evenly spaced moments of a TR, N being the number of rows in it."""
    per_tr = max(1, round(float(np.diff(edges_T1).mean())))
    within_N = (np.arange(per_tr) + 0.5) / per_tr
    places_TN = edges_T1[:-1, None] + within_N * np.diff(edges_T1)[:, None]
    return np.asarray(rows_NF[places_TN.astype(int).clip(0, len(rows_NF) - 1)])


def _amounts(where: str, values: NDArray[Any], n_trs: int) -> NDArray[np.float32]:
    if values.ndim != 2 or len(values) != n_trs or values.dtype.kind not in "iufb":
        raise DataError(
            f"{where}: the features have shape {_times(values.shape)}; {n_trs} TRs need {n_trs} x features.",
            "Codes need the size of their books: codes: 1024.",
        )
    bad = int((~np.isfinite(values)).any(axis=1).sum())
    if bad:
        raise DataError(f"{where}: values in {bad} TRs are not finite.", "Fix them before you use the file.")
    return values.astype(np.float32)


def _shares(where: str, values: NDArray[Any], n_trs: int, n_codes: int) -> NDArray[np.float32]:
    if values.ndim != 3 or len(values) != n_trs or not np.array_equal(values, np.rint(values)):
        raise DataError(
            f"{where}: codes of shape {_times(values.shape)}; {n_trs} TRs need whole numbers, TRs x moments x books.",
            "Leave `codes` out for features that are amounts.",
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= n_codes:
        raise DataError(
            f"{where}: codes run from {low} to {high}; a book of {n_codes} has 0 to {n_codes - 1}.",
            f"Set {where}.codes to the size of a book.",
        )
    _, n_moments, n_books = values.shape
    shares_TBQ = np.zeros((n_trs, n_books, n_codes), np.float32)
    index_TNB = np.broadcast_to(np.arange(n_trs)[:, None, None], values.shape)
    np.add.at(shares_TBQ, (index_TNB, np.arange(n_books)[None, None], values.astype(int)), 1.0 / n_moments)
    return shares_TBQ.reshape(n_trs, -1)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
