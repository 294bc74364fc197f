"""Read a brain atlas: a label per voxel, and the names of the parcels.

The atlas is a map of whole numbers, 0 outside every parcel, in the format of the study: NIfTI, `.dlabel.nii`, a pair of
`.label.gii` or `.annot`, or a table of groups of parcels. A `.tsv` of the same name may name the parcels, with the BIDS
columns `index` and `name` (`dseg.tsv`); otherwise the names in the file apply.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import Geometry
from giblet_train.data.readers.maps import Map, read_map
from giblet_train.data.readers.sidecar import image_stem
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import without_waiting

MOST_PARCELS = 10_000
REMEDY = "An atlas is a map of labels in the format of the BOLD files: whole numbers, 0 outside every parcel."


def read_parcels(path: Path, geometry: Geometry) -> Map:
    """Read each position's label; a volume on another grid is resampled, with a note.

    Raises DataError for a map that does not fit and for values that are not labels.
    """
    atlas = read_map(path, geometry, REMEDY, resample=True)
    values = np.nan_to_num(atlas.values)
    if not np.array_equal(values, np.rint(values)) or values.min() < 0:
        raise DataError(f"{path} holds values that are no labels, such as {_odd(values):g}.", REMEDY)
    if len(np.unique(values)) > MOST_PARCELS:
        raise DataError(f"{path} has more than {MOST_PARCELS} parcels.", REMEDY)
    return Map(values.astype(np.int32), atlas.names, atlas.notes)


def parcel_names(path: Path, labels: Sequence[int], own_names: Mapping[int, str] | None = None) -> dict[int, str]:
    """Return label -> name; a label without a name becomes `parcel 7`.

    Raises DataError for missing columns, an index that is not a number, and a name used twice.

    Args:
        own_names: Names in the atlas itself; those of the table next to it come first.
    """
    table = parcel_names_file(path)
    name_by_index = {**(own_names or {}), **({} if table is None else _read_table(table))}
    names = {label: name_by_index.get(label, f"parcel {label}") for label in labels}
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise DataError(
            f"{table or path} calls more than one parcel {twice!r}.", "Give each its own name, such as left/right."
        )
    return names


def parcel_names_file(atlas: Path | None) -> Path | None:
    """Return the table of names next to an atlas, or None."""
    if atlas is None:
        return None
    table = atlas.with_name(image_stem(atlas) + ".tsv")
    return table if table.is_file() and table != atlas else None


def _read_table(path: Path) -> dict[int, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="", opener=without_waiting) as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (KeyError, ValueError, AttributeError, OSError) as error:
        raise DataError(
            f"{path} is no table of parcels: {error}.", "Its columns are index and name, separated by tabs."
        ) from None


def _odd(values: NDArray[np.generic]) -> float:
    numbers = np.asarray(values, np.float64).ravel()
    return float(numbers[(numbers != np.rint(numbers)) | (numbers < 0)][0])
