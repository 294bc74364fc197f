"""Read series of parcels: `.npy`, `.npz`, `.h5`, and tables with names, `.tsv` and `.csv`.

T TRs, P parcels. Arrays have one row per volume. A table has a header of names; one that has a row per parcel is read
as well, and reported.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import ParcelTable
from giblet_train.data.readers.array_reader import ArrayReader
from giblet_train.data.readers.image_files import check_present
from giblet_train.data.readers.repetition_time import HeaderNote, TrustTr, checked_tr
from giblet_train.data.readers.series_path import SEPARATOR, split_dataset
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import DataError

TABLES = (".tsv", ".csv")
DELIMITERS = "\t,;"
HDF5 = (".h5", ".hdf5")
SUFFIXES = (*TABLES, *HDF5, ".npy", ".npz")
MISSING = ("", "n/a", "nan", "na")


def read_parcel_header(path: Path, tr_s: float | None, trust: TrustTr) -> Volumes:
    """Check a file of parcels; see `headers.read_header`. `path` may name a dataset: `sub-01.h5::film`."""
    file, _ = split_dataset(path)
    check_present(file)
    if file.suffix in TABLES:
        values_TP, names, notes = _read_table(file)
    else:
        values_TP, names, notes = load_array(path), (), ()
    n_trs, n_parcels = values_TP.shape
    if values_TP.dtype.kind not in "iuf" or n_trs < 2 or not n_parcels:
        raise DataError(
            f"{path} holds {n_trs} x {n_parcels} values of type {values_TP.dtype}.",
            "Give numbers, one row per volume and one column per parcel.",
        )
    names = names or tuple(f"parcel {n}" for n in range(1, n_parcels + 1))
    seconds, tr_notes = checked_tr(0.0, "sec", read_sidecar(file), tr_s, trust, file)
    reader = ArrayReader(path, n_trs, lambda: _read_table(file)[0] if file.suffix in TABLES else load_array(path))
    return Volumes(path, ParcelTable(names=names), n_trs, n_trs, seconds, reader, notes=(*tr_notes, *notes))


def load_array(path: Path) -> NDArray[Any]:
    """Return the (T, P) array of a `.npy`, `.npz` or `.h5` file. Raises DataError."""
    file, dataset = split_dataset(path)
    try:
        if file.suffix in HDF5:
            values = _from_hdf5(file, dataset)
        else:
            loaded: Any = np.load(file, mmap_mode="r" if file.suffix == ".npy" else None, allow_pickle=False)
            values = loaded if isinstance(loaded, np.ndarray) else loaded[_chosen(file, dataset, list(loaded))]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a readable array: {error}.", "Copy it again from its source.") from None
    if values.ndim != 2:
        raise DataError(
            f"{path} has {values.ndim} dimensions; a series of parcels has 2: volumes and parcels.",
            "Give one row per volume and one column per parcel.",
        )
    return values


def dataset_names(file: Path) -> list[str]:
    """Return the names of the datasets of an HDF5 file. Raises DataError if it is unreadable or h5py is missing."""
    h5py = hdf5_package(file)
    names: list[str] = []
    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        raise DataError(f"{file} is not a readable HDF5 file: {error}.", "Copy it again from its source.") from None
    return names


def _from_hdf5(file: Path, dataset: str) -> NDArray[Any]:
    name = _chosen(file, dataset, dataset_names(file))
    with hdf5_package(file).File(file, "r") as opened:
        return np.asarray(opened[name])


def hdf5_package(file: Path) -> Any:
    """Return the package h5py. Raises DataError if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"{file} needs the package h5py.", "Install it on the node: pip install h5py (the extra giblet[h5])."
        ) from None
    return h5py


def _chosen(file: Path, dataset: str, names: Sequence[str]) -> str:
    """Return the dataset to read: the named one, or the only one. Raises DataError."""
    if dataset in names:
        return dataset
    if not dataset and len(names) == 1:
        return names[0]
    some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    if dataset:
        raise DataError(f"{file} has no dataset {dataset!r}{nearest(dataset, list(names)) or '.'}", f"It has {some}.")
    example = f"{file.name}{SEPARATOR}NAME"
    raise DataError(f"{file} holds {len(names)} datasets.", f"Name one, as in {example}: {some}.")


def _read_table(path: Path) -> tuple[NDArray[np.float32], tuple[str, ...], tuple[HeaderNote, ...]]:
    """Return (T, P), the names of the parcels, and notes. Raises DataError."""
    rows = _cells(path)
    notes: list[HeaderNote] = []
    body = rows[1:] if _is_header(rows[0]) else rows
    if body is not rows and not rows[0][0]:
        rows = [row[1:] for row in rows]
        body = rows[1:]
        notes.append(HeaderNote("index_column", f"{path.name}: the first column has no name; it is left out."))
    if all(_number(row[0]) is None for row in body) and len(body[0]) > 1:
        names = [row[0] for row in body]
        values = [row[1:] for row in body]
        sentence = f"{path.name} has one row per parcel instead of one per volume; it is read transposed."
        notes.append(HeaderNote("transposed_table", sentence))
        return _numbers(path, values).T, _checked_names(path, names), tuple(notes)
    if body is rows:
        return _numbers(path, body), (), (*notes, HeaderNote("no_header", f"{path.name} has no names of parcels."))
    return _numbers(path, body), _checked_names(path, rows[0]), tuple(notes)


def _is_header(row: Sequence[str]) -> bool:
    """Return True for a row of names; also if only the first is one, before the numbers of the volumes."""
    numbers = [_number(cell) for cell in row[1:]]
    if None in numbers or len(row) == 1:
        return _number(row[0]) is None or None in numbers
    counted = any(numbers == list(range(first, first + len(numbers))) for first in (0, 1))
    return _number(row[0]) is None and counted


def _cells(path: Path) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
        header = text.partition("\n")[0]
        delimiter = max(DELIMITERS, key=header.count)
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Give a table with a header of parcel names.") from None
    if len(rows) < 2:
        raise DataError(f"{path} has no volumes.", "Give a header of parcel names and one row per volume.")
    uneven = next((n for n, row in enumerate(rows, 1) if len(row) != len(rows[0])), None)
    if uneven is not None:
        raise DataError(
            f"{path}, row {uneven} has {len(rows[uneven - 1])} cells, row 1 has {len(rows[0])}.", "Correct the table."
        )
    return rows


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
