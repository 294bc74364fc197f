"""Read series of parcels: `.npy`, `.npz`, `.h5`, and tables with names, `.tsv` and `.csv`.

T TRs, P parcels. Arrays have one row per volume. A table has a header of names; one that has a row per parcel is read
as well, and reported.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import ParcelTable
from giblet_train.data.readers.array_file import HDF5, read_array
from giblet_train.data.readers.array_reader import ArrayReader
from giblet_train.data.readers.delimiter import find_delimiter
from giblet_train.data.readers.image_files import check_present
from giblet_train.data.readers.repetition_time import HeaderNote, TrustTr, checked_tr
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import without_waiting

TABLES = (".tsv", ".csv")
SUFFIXES = (*TABLES, *HDF5, ".npy", ".npz")
DECIMAL_COMMA = re.compile(r"-?\d+,\d+(?:[eE][-+]?\d+)?")
FEWEST_COUNTED = 8
LEAST_LABELS = 4
MISSING = ("", "n/a", "nan", "na")
CENTRED = 1e-3
"""Largest mean, in standard deviations, of series that were centred."""
MOST_VALUES = 8_000_000
LEVEL = 5.0
"""Standard deviation of the means of parcels in scanner units, in standard deviations over time; usually 10 or more."""


def read_parcel_header(path: Path, tr_s: float | None, trust: TrustTr) -> Volumes:
    """Check a file of parcels; see `headers.read_header`. `path` may name a dataset: `sub-01.h5::film`."""
    file, _ = split_dataset(path)
    check_present(file)
    is_table = file.suffix.lower() in TABLES
    if is_table:
        values_TP, names, notes = _read_table(file)
    else:
        values_TP, names, notes = load_array(path), (), ()
    n_trs, n_parcels = values_TP.shape
    if values_TP.dtype.kind not in "iuf" or n_trs < 2 or not n_parcels:
        raise DataError(
            f"{path} holds {n_trs} x {n_parcels} values of type {values_TP.dtype}.",
            "Give numbers, one row per volume and one column per parcel.",
        )
    if not names:
        _check_orientation(path, values_TP)
    names = names or tuple(f"parcel {n}" for n in range(1, n_parcels + 1))
    seconds, tr_notes = checked_tr(0.0, "sec", read_sidecar(file), tr_s, trust, file)
    reader = ArrayReader(path, n_trs, lambda: _read_table(file)[0] if is_table else load_array(path))
    return Volumes(path, ParcelTable(names=names), n_trs, n_trs, seconds, reader, notes=(*tr_notes, *notes))


def _check_orientation(path: Path, values_TP: NDArray[Any]) -> None:
    """Raise DataError for an array with one row per parcel instead of one per volume.

    Over time, the values of a parcel are near its own mean, or have mean 0 exactly because they were centred. An array
    in which this is true of the rows, and not of the columns, is transposed. Of large arrays the first rows are judged.
    """
    n_rows, n_columns = values_TP.shape
    n_judged = min(n_rows, max(2, MOST_VALUES // n_columns))
    finite_TP = np.nan_to_num(np.asarray(values_TP[:n_judged], np.float64), posinf=0.0, neginf=0.0)
    over_rows_P, over_columns_T = finite_TP.mean(axis=0), finite_TP.mean(axis=1)
    sd = float((finite_TP - over_rows_P - over_columns_T[:, None] + finite_TP.mean()).std())
    if sd <= 1e-9 * max(1e-9, float(np.abs(finite_TP).max())):
        return
    rows_are_centred = (
        n_judged == n_rows
        and np.abs(over_columns_T).max() < CENTRED * sd
        and 0.01 * sd < np.abs(over_rows_P).max() < LEVEL * sd
    )
    rows_have_levels = over_columns_T.std() > LEVEL * sd and over_rows_P.std() < sd
    if rows_are_centred or rows_have_levels:
        raise DataError(
            f"{path} has {n_rows} rows and {n_columns} columns, but its rows vary as parcels do over time: it has "
            "one row per parcel.",
            "Store it transposed: one row per volume and one column per parcel.",
        )


def load_array(path: Path) -> NDArray[Any]:
    """Return the (T, P) array of a `.npy`, `.npz` or `.h5` file. Raises DataError."""
    values = read_array(path)
    if values.ndim != 2:
        raise DataError(
            f"{path} has {values.ndim} dimensions; a series of parcels has 2: volumes and parcels.",
            "Give one row per volume and one column per parcel.",
        )
    return values


def _read_table(path: Path) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[HeaderNote, ...]]:
    """Return (T, P), the names of the parcels, and notes. Raises DataError."""
    rows, is_quoted = _cells(path)
    notes: list[HeaderNote] = []
    is_numbered = _has_numbered_parcels(rows, is_quoted)
    body = rows[1:] if _is_header(rows[0]) or is_numbered else rows
    names_parcels = is_numbered and all(_number(row[0]) is None for row in body)
    if body is not rows and not rows[0][0] and not names_parcels:
        rows = [row[1:] for row in rows]
        body = rows[1:]
        notes.append(HeaderNote("index_column", f"{path.name}: the first column has no name; it is left out."))
    if all(_number(row[0]) is None for row in body) and len(body[0]) > 1:
        names = [row[0] for row in body]
        values = [row[1:] for row in body]
        sentence = f"{path.name} has one row per parcel instead of one per volume; it is read transposed."
        notes.append(HeaderNote("transposed_table", sentence))
        return _numbers(path, values).T, _checked_names(path, names), tuple(notes)
    values_TP = _numbers(path, body)
    parcels = () if body is rows else _checked_names(path, rows[0])
    if is_numbered:
        labels = ", ".join(parcels[:3])
        sentence = f"{path.name}: the first row, {labels} ..., is taken for labels of parcels, not for a volume."
        notes.append(HeaderNote("numbered_parcels", sentence))
    if values_TP.shape[1] > 1 and _counts(values_TP[:, 0]):
        column = f"column {parcels[0]}" if parcels else "first column"
        notes.append(HeaderNote("index_column", f"{path.name}: the {column} counts the volumes; it is left out."))
        values_TP, parcels = values_TP[:, 1:], parcels[1:]
    if body is rows:
        notes.append(HeaderNote("no_header", f"{path.name} has no names of parcels."))
    return values_TP, parcels, tuple(notes)


def _counts(column_T: NDArray[np.float32]) -> bool:
    """Return True for numbers or times of volumes, which begin at 0 or at their step and grow evenly."""
    steps = np.diff(column_T.astype(np.float64))
    if len(steps) < FEWEST_COUNTED or steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=1e-3):
        return False
    return any(abs(column_T[0] - start) < 1e-3 * steps[0] for start in (0.0, steps[0] / 2, steps[0]))


def _is_header(row: Sequence[str]) -> bool:
    """Return True for a row of names; also if only the first is one, before the numbers of the volumes."""
    numbers = [_number(cell) for cell in row[1:]]
    if None in numbers or len(row) == 1:
        return _number(row[0]) is None or None in numbers
    counted = any(numbers == list(range(first, first + len(numbers))) for first in (0, 1))
    return _number(row[0]) is None and counted


def _cells(path: Path) -> tuple[list[list[str]], bool]:
    """Return rows of cells, and True if the first row is in quotation marks and the second is not."""
    try:
        with open(path, encoding="utf-8-sig", newline="", opener=without_waiting) as file:
            text = file.read()
        lines = [line for line in text.splitlines() if line]
        delimiter = find_delimiter(lines)
        rows = [[_plain(cell) for cell in row] for row in csv.reader(lines, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Give a table with a header of parcel names.") from None
    if len(rows) < 2:
        raise DataError(f"{path} has no volumes.", "Give a header of parcel names and one row per volume.")
    uneven = next((n for n, row in enumerate(rows, 1) if len(row) != len(rows[0])), None)
    if uneven is not None:
        raise DataError(
            f"{path}, row {uneven} has {len(rows[uneven - 1])} cells, row 1 has {len(rows[0])}.", "Correct the table."
        )
    return rows, lines[0].startswith('"') and '"' not in lines[1]


def _has_numbered_parcels(rows: Sequence[Sequence[str]], is_quoted: bool) -> bool:
    """Return True if the first row are growing whole numbers, as labels of parcels are, and the second is not.

    An empty first cell is above an index and no label. It, or quotation marks, show that the row is a header. Without
    them, whole numbers of a few parcels can grow by chance: fewer than LEAST_LABELS must count from 0 or 1.
    """
    start = 0 if rows[0][0] else 1
    labels, values = ([_number(cell) for cell in row[start:]] for row in rows[:2])
    if len(labels) < 2 - start or not all(n is not None and n == int(n) for n in labels if n is None or isfinite(n)):
        return False
    steps = [after - before for before, after in pairwise(n for n in labels if n is not None)]
    counts = all(step == 1 for step in steps) and labels[0] in (0, 1)
    are_whole = all(n is not None and isfinite(n) and n == int(n) for n in values)
    is_marked = start == 1 or is_quoted
    if not is_marked and len(labels) < LEAST_LABELS and not counts:
        return False
    # Without a mark, 0 and 1 may as well be a volume of two parcels whose values are all whole.
    are_labels = is_quoted or (counts and (is_marked or len(labels) > 2))
    return all(step > 0 for step in steps) and (are_labels or not are_whole)


def _plain(cell: str) -> str:
    """Return a cell without blanks, and a number with a point before its decimals."""
    cell = cell.strip()
    return cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell


def _numbers(path: Path, rows: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    values = [[_number(cell) for cell in row] for row in rows]
    for n, row in enumerate(values):
        if None in row:
            cell = rows[n][row.index(None)]
            raise DataError(f"{path}: {cell!r} is not a number.", "Give one row per volume and one column per parcel.")
    return np.array(values, np.float32)


def _number(cell: str) -> float | None:
    """Return the number in a cell, NaN for a missing value, None for text."""
    if cell.lower() in MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        return None


def _checked_names(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} calls two parcels {twice!r}.", "Give each its own name, such as left/right.")
    return tuple(names)
