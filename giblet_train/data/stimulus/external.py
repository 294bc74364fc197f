"""Features of a stimulus that are not giblet's own: from an installed extractor, a file, or a pretrained model.

An extractor is a function that a package offers under the entry point group `giblet.features`. It is given a
`FilmTimeline` and returns a row for each TR: (T, F) amounts, or (T, N, B) codes at N moments of a TR in B books.
T TRs, N moments or rows of a file, F features, B books of codes, Q codes in a book.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.array_file import HDF5, read_array
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.data.stimulus.code_frequencies import looks_categorical
from giblet_train.data.stimulus.film_timeline import FilmTimeline
from giblet_train.data.stimulus.pretrained import ModelRuns, pretrained_features
from giblet_train.data.stimulus.row_means import row_means
from giblet_train.schema.config import FeatureSource, nearest
from giblet_train.schema.errors import DataError

GROUP = "giblet.features"
OWN = {"encodec": "giblet_train.data.stimulus.encodec:extract"}
"""Extractors that come with giblet, next to those that packages offer."""

LONGER_SHARE, LONGER_TRS = 0.02, 2
SUFFIXES = (".npy", ".npz", *HDF5)

SLACK_S = 0.1


class CodesAsAmounts(DataError):
    """Features that are codes, brought as amounts."""

    finding = "codes_as_numbers"
    """Name of the finding in `data check`."""


Extractor = Callable[[FilmTimeline], NDArray[Any] | None]


def external_features(
    space: str, source: FeatureSource, file: Path | None, timeline: FilmTimeline, runs: ModelRuns | None = None
) -> NDArray[np.float32] | None:
    """Return (T, F) amounts, or (T, B·Q) shares of a TR's moments at which each book has each code.

    Returns None if the stimulus lacks what a model or an extractor describes. Raises DataError if the extractor is not
    installed, the model cannot be run, or for a wrong shape or values that are not finite.

    Args:
        file: Path of `source.file`, or folder of `source.model`.
        runs: How pretrained models are run.
    """
    where = f"data.features.{space}"
    if source.model is not None:
        assert file is not None
        features_TF = pretrained_features(where, source, file, timeline, runs or ModelRuns())
        return None if features_TF is None else _amounts(where, features_TF, timeline.n_trs)
    values = _from_file(where, source, file, timeline) if file else _extracted(where, source, timeline)
    if values is None:
        return None
    if source.codes is None:
        return _amounts(where, values, timeline.n_trs)
    return _shares(where, values, timeline.n_trs, source.codes)


def identity(source: FeatureSource) -> dict[str, Any]:
    """Return the identity of a source: an extractor has its package's version, so that a new version runs again.

    Of an extractor that is named by its module, the text of the module counts. Raises DataError if it is not installed.
    """
    settings = msgspec.to_builtins(source)
    if source.file is not None:
        # The content of the file is part of the key, not its path.
        settings["file"] = split_dataset(Path(source.file))[1]
    if source.model is not None:
        settings["model"] = True
    return {name: value for name, value in settings.items() if name != "weight"} | {"package": _version(source)}


def _version(source: FeatureSource) -> str | None:
    name = source.extractor
    if name is None or name in OWN:
        return None
    if ":" in name:
        module = _module(name)
        return hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest() if module.__file__ else None
    package = _entry_point(name).dist
    return f"{package.name} {package.version}" if package else None


def _extracted(where: str, source: FeatureSource, timeline: FilmTimeline) -> NDArray[Any] | None:
    name = source.extractor or ""
    try:
        values = _extractor(name)(timeline)
        return None if values is None else np.asarray(values)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # another's code: whatever it raises is its answer
        raise DataError(
            f"{where}: the extractor {name!r} failed: {type(error).__name__}: {error}.", "Fix it, or bring a file."
        ) from error


def _extractor(name: str) -> Extractor:
    if ":" in OWN.get(name, name):
        extractor: Extractor = getattr(_module(OWN.get(name, name)), OWN.get(name, name).partition(":")[2])
        return extractor
    function: Extractor = _entry_point(name).load()
    return function


def _module(name: str) -> ModuleType:
    """Import the module of `package.module:function`. Raises DataError if it has no such function."""
    where, _, function = name.partition(":")
    try:
        module = import_module(where)
    except (Exception, SystemExit) as error:  # another's code: whatever it raises is its answer
        raise DataError(
            f"The extractor {name!r} cannot be imported: {type(error).__name__}: {error}.",
            "Install its package on the node: giblet setup NODE --with PACKAGE.",
        ) from None
    if not callable(getattr(module, function, None)):
        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise DataError(f"{where} has no function {function!r}{nearest(function, names) or '.'}", "Correct its name.")
    return module


def _entry_point(name: str) -> EntryPoint:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name in points:
        return points[name]
    names = sorted({*points, *OWN})
    raise DataError(
        f"There is no extractor called {name!r}{nearest(name, names) or '.'}",
        f"Available: {', '.join(names)}. Others: giblet setup NODE --with PACKAGE, a package that offers it under the "
        f"entry point group {GROUP}, or package.module:function.",
    )


def _from_file(where: str, source: FeatureSource, path: Path, timeline: FilmTimeline) -> NDArray[Any]:
    """Average the rows of a file over each TR; of codes, return all moments.

    Row n covers seconds n / rows_per_s to (n + 1) / rows_per_s of the film; without a rate there is one row per TR.
    """
    rows_NF = read_rows(where, path, source.layer)
    rate_hz = source.rows_per_s or 1.0 / timeline.tr_s
    _check_duration(where, path, rows_NF.shape, rate_hz, timeline)
    if source.codes is None:
        _check_amounts(where, path, rows_NF)
    edges_T1 = (timeline.start_s + timeline.tr_s * np.arange(timeline.n_trs + 1, dtype=np.float64)) * rate_hz
    return row_means(rows_NF, edges_T1) if source.codes is None else _moments(rows_NF, edges_T1)


def _check_duration(where: str, path: Path, shape: Sequence[int], rate_hz: float, timeline: FilmTimeline) -> None:
    """Raise DataError if the rows end before the last TR, or well after the stimulus."""
    n_rows = shape[0]
    rows_s, needed_s = n_rows / rate_hz, timeline.start_s + timeline.n_trs * timeline.tr_s
    have = f"{where}: {path.name} has {n_rows} rows at {rate_hz:g} a second, {rows_s:.1f} s"
    if rows_s + SLACK_S < needed_s:
        transposed = len(shape) == 2 and abs(shape[1] / rate_hz - needed_s) <= timeline.tr_s
        raise DataError(
            f"{have} of the stimulus; {needed_s:.1f} s are needed.",
            f"Its {shape[1]} columns would fit: write one row per moment, not one per feature."
            if transposed
            else "State rows_per_s, or split.usable_trs; rows are never stretched.",
        )
    if timeline.seconds is not None and rows_s > longest_s(timeline.seconds, timeline.tr_s):
        raise DataError(
            f"{have}, but the stimulus lasts {timeline.seconds:.1f} s.",
            f"State the rate of the file: rows_per_s: {n_rows / timeline.seconds:.4g} would fit the whole stimulus.",
        )


def longest_s(stimulus_s: float, tr_s: float) -> float:
    """Return how long features of a stimulus may last: rates are rounded and credits cut."""
    return stimulus_s * (1 + LONGER_SHARE) + LONGER_TRS * tr_s


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


def read_rows(where: str, path: Path, layer: int | Sequence[int] | None) -> NDArray[Any]:
    """Return the rows (N, F) of a file: (N,), (N, F), or some layers of (N, layers, F). Raises DataError."""
    if split_dataset(path)[0].suffix not in SUFFIXES:
        raise DataError(
            f"{where}: {path.name} is no {', '.join(SUFFIXES)} file.", "Write rows of features with numpy.save."
        )
    array = read_array(path)
    if array.ndim not in (1, 2, 3) or not array.size or array.dtype.kind not in "iufb":
        raise DataError(
            f"{where}: {path} has shape {_times(array.shape)} and type {array.dtype}; it is not rows of numbers.",
            "Write (rows, features), or (rows, layers, features), as numbers.",
        )
    if array.ndim < 3:
        if layer is not None:
            raise DataError(f"{where}: {path} has no layers, its shape is {_times(array.shape)}.", "Leave layer out.")
        return array.reshape(len(array), -1)
    layers = range(array.shape[1]) if layer is None else [layer] if isinstance(layer, int) else layer
    if len(layers) > 1 and layer is None:
        raise DataError(
            f"{where}: {path} has {array.shape[1]} layers, its shape is {_times(array.shape)}.",
            f"Choose one, counted from 0, or several: {where}.layer: {array.shape[1] // 2}.",
        )
    outside = [n for n in layers if not -array.shape[1] <= n < array.shape[1]]
    if outside:
        raise DataError(
            f"{where}: {path} has no layer {outside[0]}; it has {array.shape[1]}, counted from 0.", "Correct layer."
        )
    return array[:, layers].reshape(len(array), -1)


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
