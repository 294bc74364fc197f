"""Read an array from a `.npy`, `.npz` or `.h5` file. `a.h5::film` names the dataset `film` of a file."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.series_path import SEPARATOR, split_dataset
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import DataError

HDF5 = (".h5", ".hdf5", ".hf5", ".hdf")


def read_array(path: Path) -> NDArray[Any]:
    """Return the array of a file, of any shape; a `.npy` file is mapped into memory. Raises DataError."""
    file, dataset = split_dataset(path)
    try:
        if file.suffix.lower() in HDF5:
            return _from_hdf5(file, dataset)
        array: Any = np.load(file, mmap_mode="r" if file.suffix.lower() == ".npy" else None, allow_pickle=False)
        return array if isinstance(array, np.ndarray) else np.asarray(array[_dataset_named(file, dataset, list(array))])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is not a readable array: {error}.", "Copy it again from its source.") from None


def dataset_names(file: Path) -> list[str]:
    """Return the names of the datasets of an HDF5 file. Raises DataError if it is unreadable or h5py is missing."""
    h5py = hdf5_package(file)
    names: list[str] = []
    try:
        with h5py.File(file, "r") as hdf5_file:
            hdf5_file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        raise DataError(f"{file} is not a readable HDF5 file: {error}.", "Copy it again from its source.") from None
    return names


def _from_hdf5(file: Path, dataset: str) -> NDArray[Any]:
    name = _dataset_named(file, dataset, dataset_names(file))
    with hdf5_package(file).File(file, "r") as hdf5_file:
        return np.asarray(hdf5_file[name])


def hdf5_package(file: Path) -> Any:
    """Return the package h5py. Raises DataError if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"{file} needs the package h5py.", "Install it on the node: pip install h5py (the extra giblet[h5])."
        ) from None
    return h5py


def _dataset_named(file: Path, dataset: str, names: Sequence[str]) -> str:
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
