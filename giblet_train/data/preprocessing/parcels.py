"""Named sets of a split's voxels: the parcels of its atlas, the labels of another one, or a mask.

V voxels that a split's mask keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.readers.atlas import parcel_names, read_parcels
from giblet_train.data.readers.maps import read_map
from giblet_train.schema.config import MODALITIES, nearest
from giblet_train.schema.errors import ConfigError

MODALITY_OF = {
    "low_vision": "video",
    "high_vision": "video",
    "audio": "audio",
    "text": "text",
    "narrative": "text",
}
"""What the model sees of each group of true features."""

REMEDY = "An atlas or mask is a map in the format of the BOLD files."
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Parcel:
    """A named set of voxels."""

    name: str
    voxels_V: Mask
    shares: Mapping[str, float] = field(default_factory=dict)
    """Modality -> share of the explainable variance; empty if unknown."""


def parcels_of_split(data: PreparedSplit, study: Path) -> tuple[Parcel, ...]:
    """Return the parcels of the split's atlas, with the true shares if `study` is the folder of a demo study."""
    shares = _true_shares(study)
    parcels = []
    for name, where in data.parcels.items():
        voxels_V = np.zeros(data.n_voxels, bool)
        voxels_V[where] = True
        parcels.append(Parcel(name, voxels_V, shares.get(name, {})))
    return tuple(parcels)


def parcels_of_atlas(path: Path, data: PreparedSplit) -> tuple[Parcel, ...]:
    """Return one parcel per non-zero label of another atlas, named by the table next to it. Raises DataError."""
    atlas = read_parcels(path, data.study.geometry)
    label_V = data.from_grid(atlas.values)
    labels = [n for n in np.unique(label_V).tolist() if n]
    names = parcel_names(path, labels, atlas.names)
    return tuple(Parcel(name, label_V == label) for label, name in names.items())


def parcel_of_mask(path: Path, data: PreparedSplit) -> Parcel:
    """Return the non-zero voxels of a NIfTI file as a parcel with the file's name. Raises DataError."""
    values_V = data.from_grid(read_map(path, data.study.geometry, REMEDY).values)
    return Parcel(path.name.split(".")[0], np.isfinite(values_V) & (values_V != 0))


def select_parcels(parcels: Sequence[Parcel], names: Sequence[str]) -> tuple[Parcel, ...]:
    """Select parcels by name; `a+b` is a union, no name selects all. Raises ConfigError."""
    by_name = {p.name: p for p in parcels}
    if not names:
        selection = tuple(parcels)
    else:
        selection = tuple(_union(name, [_parcel_named(part, by_name) for part in name.split("+")]) for name in names)
    empty = [p.name for p in selection if not p.voxels_V.any()]
    if empty:
        raise ConfigError(f"No voxel of this run's mask is in {', '.join(empty)}.", "Choose another region.")
    return selection


def _parcel_named(name: str, by_name: Mapping[str, Parcel]) -> Parcel:
    if name not in by_name:
        some = ", ".join(list(by_name)[:12])
        raise ConfigError(f'There is no region "{name}"{nearest(name, list(by_name))}', f"There are: {some}.")
    return by_name[name]


def _union(name: str, parts: Sequence[Parcel]) -> Parcel:
    if len(parts) == 1:
        return parts[0]
    sizes = [int(p.voxels_V.sum()) for p in parts]
    shares: dict[str, float] = {}
    if all(p.shares for p in parts) and any(sizes):
        shares = {m: sum(n * p.shares[m] for n, p in zip(sizes, parts, strict=True)) / sum(sizes) for m in MODALITIES}
    return Parcel(name, np.any([p.voxels_V for p in parts], axis=0), shares)


def _true_shares(study: Path) -> dict[str, dict[str, float]]:
    """Return region -> modality -> its share from a truth file; nothing if the brain is real."""
    if not (study / "truth.json").is_file():
        return {}
    regions = json.loads((study / "truth.json").read_text())["regions"]
    return {
        r["name"]: {m: sum(v for g, v in r["shares"].items() if MODALITY_OF[g] == m) for m in MODALITIES}
        for r in regions
    }
