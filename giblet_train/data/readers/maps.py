"""Read masks, atlases and other maps: one number for each position of a geometry.

A volume grid takes NIfTI, grayordinates CIFTI, surfaces GIFTI or FreeSurfer pairs, and parcels a table.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

from giblet_train.data.geometry import (
    AFFINE_TOLERANCE_MM,
    CiftiParcels,
    Geometry,
    Grayordinates,
    ParcelTable,
    SurfacePair,
    VolumeGrid,
    times,
)
from giblet_train.data.readers.image_files import UNREADABLE, check_present, load_image
from giblet_train.data.readers.series_path import hemispheres
from giblet_train.schema.errors import DataError

MASK_REMEDY = "data.mask is `vote`, `atlas`, or a map in the format of the BOLD files."
SCALING_ERROR = 1e-3
"""Distance from 0 and from 1 within which a value is that number, as scaled integers do not store it exactly."""
Array = NDArray[Any]


@dataclass(frozen=True)
class Map:
    """Values of a file at the positions of a geometry."""

    values: Array
    """In the shape of the geometry; 0 where the file has no value."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Label -> name, if the file itself names its labels."""
    notes: tuple[str, ...] = ()
    """A sentence for whatever had to be done to fit the file to the geometry."""


def read_mask(path: Path, geometry: Geometry) -> NDArray[np.bool_]:
    """Read the non-zero positions of a map, in the shape of the geometry. Raises DataError if it does not fit."""
    values = read_map(path, geometry, MASK_REMEDY).values
    if ((values > SCALING_ERROR) & (values < 1 - SCALING_ERROR)).any():
        raise DataError(
            f"{path} has values between 0 and 1, such as probabilities, which do not say what is inside.",
            "Threshold it, such as at 0.5, and write 0 and 1.",
        )
    mask: NDArray[np.bool_] = np.isfinite(values) & (np.abs(values) > SCALING_ERROR)
    return mask


def read_map(path: Path, geometry: Geometry, remedy: str, *, resample: bool = False) -> Map:
    """Read a map. Raises DataError if it is unreadable or does not fit.

    Args:
        remedy: Added to the error if the file is no map.
        resample: Take the nearest neighbour of a volume on another grid, with a note.
    """
    if isinstance(geometry, CiftiParcels | ParcelTable):
        return _of_parcels(path, geometry.names, remedy)
    if isinstance(geometry, SurfacePair):
        return _on_surfaces(path, geometry, remedy)
    check_present(path)
    image = load_image(path, remedy)
    try:
        values = np.asarray(image.dataobj)
    except (*UNREADABLE, AttributeError) as error:
        raise DataError(f"{path} is not a readable map: {error}.", remedy) from None
    if isinstance(geometry, Grayordinates):
        return _on_grayordinates(path, image, values, geometry, remedy)
    return _on_grid(path, image, values, geometry, resample)


def _on_grid(path: Path, image: Any, values_XYZ: Array, grid: VolumeGrid, resample: bool) -> Map:
    if not isinstance(image, nibabel.Nifti1Pair):
        raise DataError(f"{path} is no NIfTI volume, as the BOLD files are.", "Give a 3-D NIfTI file.")
    if values_XYZ.ndim == 4 and values_XYZ.shape[3] == 1:
        values_XYZ = values_XYZ[..., 0]
    same = values_XYZ.shape == grid.shape and np.abs(image.affine - grid.affine).max() <= AFFINE_TOLERANCE_MM
    if same:
        return Map(values_XYZ)
    if not resample or values_XYZ.ndim != 3:
        raise DataError(
            f"{path} is not on the grid of the BOLD files ({times(grid.shape)} voxels).",
            "Resample it to their grid with nearest-neighbour interpolation.",
        )
    note = f"{path.name} is on another grid ({times(values_XYZ.shape)} voxels); its nearest voxels are taken."
    return Map(_nearest(values_XYZ, image.affine, grid), notes=(note,))


def _nearest(values_XYZ: Array, affine: NDArray[np.float64], grid: VolumeGrid) -> Array:
    """Return the value of the nearest voxel at each voxel of a grid, 0 outside the volume."""
    places = np.indices(grid.shape).reshape(3, -1)
    to_source = np.linalg.inv(affine) @ grid.affine
    source = np.rint(to_source[:3, :3] @ places + to_source[:3, 3:]).astype(np.intp)
    inside = np.all((source >= 0) & (source < np.array(values_XYZ.shape)[:, None]), axis=0)
    nearest = np.zeros(places.shape[1], values_XYZ.dtype)
    nearest[inside] = values_XYZ[tuple(source[:, inside])]
    return nearest.reshape(grid.shape)


def _on_grayordinates(path: Path, image: Any, values: Array, geometry: Grayordinates, remedy: str) -> Map:
    """Match the brain models of a map, which may have fewer or more vertices, by structure, vertex and voxel."""
    axis = image.header.get_axis(1) if isinstance(image, nibabel.Cifti2Image) else None
    if not isinstance(axis, cifti2.BrainModelAxis):
        raise DataError(f"{path} is no CIFTI map of grayordinates, as the BOLD files are.", remedy)
    names = _label_names(image)
    if axis == geometry.axis:
        return Map(values[0], names)
    theirs = {name: (where, part) for name, where, part in axis.iter_structures()}
    values_P = np.zeros(geometry.n_positions, values.dtype)
    n_matched = 0
    for name, where, part in geometry.axis.iter_structures():
        if name not in theirs:
            continue
        positions = _positions_in(path, name, part, theirs[name][1])
        own = values[0][theirs[name][0]]
        values_P[where] = np.where(positions >= 0, own[positions], 0)
        n_matched += int((positions >= 0).sum())
    if not n_matched:
        raise DataError(f"{path} has no grayordinate of the BOLD files.", remedy)
    note = f"{path.name} has other brain models; it covers {n_matched} of {geometry.n_positions} grayordinates."
    return Map(values_P, names, (note,))


def _positions_in(path: Path, name: str, part: Any, other: Any) -> NDArray[np.intp]:
    """Return the position in another model of each vertex or voxel of a structure, -1 where it has none."""
    if part.nvertices != other.nvertices or (part.volume_shape or ()) != (other.volume_shape or ()):
        raise DataError(
            f"{path} has another resolution of {name.removeprefix('CIFTI_STRUCTURE_')} than the BOLD files.",
            "Resample it to their mesh or grid.",
        )
    if part.nvertices:
        keys, theirs = part.vertex, other.vertex
        size = next(iter(part.nvertices.values()))
    else:
        shape = part.volume_shape
        keys, theirs = (np.ravel_multi_index(axis.voxel.T, shape) for axis in (part, other))
        size = int(np.prod(shape))
    table = np.full(size, -1, np.intp)
    table[theirs] = np.arange(len(theirs))
    positions: NDArray[np.intp] = table[keys]
    return positions


def _label_names(image: Any) -> dict[int, str]:
    axis = image.header.get_axis(0)
    if not isinstance(axis, cifti2.LabelAxis):
        return {}
    return {int(key): name for key, (name, _) in axis.label[0].items() if key}


def _on_surfaces(path: Path, geometry: SurfacePair, remedy: str) -> Map:
    """Read a pair of maps; labels of the right hemisphere count on from those of the left one."""
    halves = [_hemisphere(file, remedy) for file in hemispheres(path)]
    sizes = tuple(len(values) for values, _ in halves)
    if sizes != (geometry.n_left, geometry.n_right):
        raise DataError(
            f"{path} and its right hemisphere have {sizes[0]} + {sizes[1]} vertices, the BOLD files "
            f"{geometry.description}.",
            "Resample them to the mesh of the BOLD files.",
        )
    (first, left_names), (second, right_names) = halves
    if not left_names and not right_names:
        return Map(np.concatenate([first, second]))
    shift = max(left_names, default=0)
    second_index = np.where(second > 0, second + shift, 0)
    both = set(left_names.values()) & set(right_names.values())
    names = {n: f"left {name}" if name in both else name for n, name in left_names.items()}
    names |= {n + shift: f"right {name}" if name in both else name for n, name in right_names.items()}
    return Map(np.concatenate([first, second_index]), names)


def _hemisphere(path: Path, remedy: str) -> tuple[Array, dict[int, str]]:
    """Return one value per vertex, and the names of labels."""
    check_present(path)
    if path.suffix == ".annot":
        try:
            labels, _, texts = nibabel.freesurfer.read_annot(path)
        except (*UNREADABLE, IndexError) as error:
            raise DataError(f"{path} is not a readable annotation: {error}.", remedy) from None
        return np.maximum(labels, 0), {n: text.decode() for n, text in enumerate(texts) if n}
    image = load_image(path, remedy)
    arrays = [np.asarray(array.data) for array in getattr(image, "darrays", ())]
    if not arrays or arrays[0].ndim != 1:
        raise DataError(f"{path} holds no value per vertex.", remedy)
    is_labels = nibabel.nifti1.intent_codes.niistring[image.darrays[0].intent] == "NIFTI_INTENT_LABEL"
    names = {k: name for k, name in image.labeltable.get_labels_as_dict().items() if k} if is_labels else {}
    return arrays[0], names


def _of_parcels(path: Path, parcels: tuple[str, ...], remedy: str) -> Map:
    """Read a table whose columns are a parcel's name, and a number or the name of a group of parcels."""
    check_present(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            _, *rows = csv.reader(file, delimiter="," if path.suffix == ".csv" else "\t")
        cells = {row[0].strip(): row[1].strip() for row in rows if row}
    except (OSError, UnicodeDecodeError, ValueError, IndexError) as error:
        raise DataError(f"{path} is no table of parcels: {error}.", remedy) from None
    unknown = next((name for name in cells if name not in parcels), None)
    if unknown is not None or not cells:
        raise DataError(
            f"{path} names {unknown!r}, which is no parcel of the BOLD files." if cells else f"{path} has no parcel.",
            "Its columns are a parcel and a value or group, with a header, separated by tabs.",
        )
    try:
        return Map(np.array([float(cells.get(name, 0.0)) for name in parcels]))
    except ValueError:
        groups = {group: n for n, group in enumerate(dict.fromkeys(g for g in cells.values() if g), 1)}
        labels = np.array([groups.get(cells.get(name, ""), 0) for name in parcels])
        return Map(labels, {n: group for group, n in groups.items()})
