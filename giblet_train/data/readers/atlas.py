"""Read a brain atlas: a label per voxel, and the names of the parcels.

The atlas is a 3-D NIfTI file of integers, 0 outside every parcel. A `.tsv` of the same name may name the parcels, with
the BIDS columns `index` and `name` (`dseg.tsv`). X Y Z grid.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.nifti import read_map
from giblet_train.data.readers.nifti_header import Volumes
from giblet_train.schema.errors import DataError

MOST_PARCELS = 10_000


def read_parcels(path: Path, like: Volumes) -> NDArray[np.int32]:
    """Read each voxel's label, (X, Y, Z). Raises DataError for another grid and for values that are not labels."""
    remedy = "data.atlas is a NIfTI file of labels: whole numbers, 0 outside every parcel."
    values_XYZ = read_map(path, like.shape_XYZ, like.affine, remedy)
    if not np.array_equal(values_XYZ, np.rint(values_XYZ)) or values_XYZ.min() < 0:
        raise DataError(f"{path} holds values that are no labels, such as {_odd(values_XYZ):g}.", remedy)
    if len(np.unique(values_XYZ)) > MOST_PARCELS:
        raise DataError(f"{path} has more than {MOST_PARCELS} parcels.", remedy)
    return values_XYZ.astype(np.int32)


def parcel_names(path: Path, labels: Sequence[int]) -> dict[int, str]:
    """Return label -> name; a label without a row in the table becomes `parcel 7`.

    Raises DataError for missing columns, an index that is not a number, and a name used twice.
    """
    table = parcel_names_file(path)
    named = {} if table is None else _read_table(table)
    names = {label: named.get(label, f"parcel {label}") for label in labels}
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise DataError(f"{table} calls more than one parcel {twice!r}.", "Give each its own name, such as left/right.")
    return names


def parcel_names_file(atlas: Path | None) -> Path | None:
    """Return the table of names next to an atlas, or None."""
    if atlas is None:
        return None
    table = atlas.with_name(atlas.name.removesuffix(".gz").removesuffix(".nii") + ".tsv")
    return table if table.is_file() else None


def _read_table(path: Path) -> dict[int, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (KeyError, ValueError, AttributeError, OSError) as error:
        raise DataError(
            f"{path} is no table of parcels: {error}.", "Its columns are index and name, separated by tabs."
        ) from None


def _odd(values_XYZ: NDArray[np.generic]) -> float:
    values = np.asarray(values_XYZ, np.float64).ravel()
    return float(values[(values != np.rint(values)) | (values < 0)][0])
