"""Where the values of a brain are: voxels of a grid, grayordinates, vertices of two hemispheres, or parcels.

A geometry belongs to a study. It is part of the store's manifest, is encoded as JSON, and writes maps and series in the
format of the study's files. V positions that a mask keeps, in C order; T TRs; X Y Z grid.
"""

from __future__ import annotations

import csv
import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import msgspec
import nibabel
import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

ALIGNED = 2
"""NIfTI code for "aligned to another image", written if the space is unknown."""
AFFINE_TOLERANCE_MM = 1e-2
HEMISPHERES = {"L": "CortexLeft", "R": "CortexRight"}
"""BIDS label -> anatomical structure of GIFTI."""

Values = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


class Regions(NamedTuple):
    """Parts that a geometry has by itself, such as the structures of grayordinates."""

    labels: NDArray[np.int32]
    """Label of each position, in the shape of the geometry."""
    names: Mapping[int, str]
    """Label -> name."""


class Noun(NamedTuple):
    """Noun for the positions of a geometry."""

    one: str
    """One of them."""
    many: str
    """Several."""


class _Base(msgspec.Struct, frozen=True, kw_only=True, dict=True, tag_field="kind"):
    """What all geometries share."""

    noun: ClassVar[Noun]
    """Noun for its positions."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a mask: (X, Y, Z) of a grid, otherwise one axis."""

    @property
    @abstractmethod
    def description(self) -> str:
        """Describe the positions in a few words, such as "91282 grayordinates"."""

    @abstractmethod
    def write_map(self, stem: Path, values_V: Values, mask: Mask) -> tuple[Path, ...]:
        """Write one number for each position of the mask.

        Positions outside the mask are 0; a table of parcels leaves them out. The file gets its final name when it is
        complete.

        Args:
            stem: Path without the ending, such as `out/r`, which becomes `out/r.nii.gz` or `out/r.dscalar.nii`.
            values_V: (V,), in the order of `mask`.
            mask: The V positions, in the shape of the geometry.

        Returns:
            The written files: two for a pair of hemispheres.
        """

    @abstractmethod
    def write_series(self, stem: Path, rows_TV: Values, mask: Mask, tr_s: float) -> tuple[Path, ...]:
        """Write a time series of the positions of the mask, as `write_map` does; tr_s in seconds."""

    @abstractmethod
    def difference(self, other: Geometry) -> str:
        """Describe how another geometry of the same kind differs from this one; "" if it does not."""

    def regions(self) -> Regions | None:
        """Return the parts that the geometry has by itself, or None."""
        return None

    def place(self, position: int) -> str:
        """Name a position: by its coordinates, its own name, or its number from 0. position: in a flattened mask."""
        return f"{self.noun.one} {position}"

    @property
    def n_positions(self) -> int:
        """Return the number of positions."""
        return int(np.prod(self.shape))


class VolumeGrid(_Base, frozen=True, kw_only=True, tag="volume"):
    """Voxels of a regular grid; files are NIfTI."""

    noun = Noun("voxel", "voxels")

    shape_XYZ: tuple[int, int, int]
    """Voxels along each axis."""
    affine_rows: tuple[tuple[float, ...], ...]
    """(4, 4), voxel to mm."""
    space_code: int = ALIGNED
    """NIfTI code of the space of the affine, 4 for MNI."""

    @classmethod
    def of(cls, shape: Sequence[int], affine: NDArray[np.floating[Any]], space_code: int = ALIGNED) -> VolumeGrid:
        """Build it from a shape of three axes and an affine."""
        x, y, z = (int(n) for n in shape)
        rows = tuple(tuple(row) for row in np.asarray(affine, float).tolist())
        return cls(shape_XYZ=(x, y, z), affine_rows=rows, space_code=space_code)

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """Return (4, 4), voxel to mm."""
        return np.array(self.affine_rows, float)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shape_XYZ

    @property
    def description(self) -> str:
        return f"{times(self.shape_XYZ)} voxels"

    def place(self, position: int) -> str:
        """Name the voxel by its coordinates in mm."""
        index = np.unravel_index(position, self.shape_XYZ)
        x, y, z = self.affine[:3, :3] @ np.array(index, float) + self.affine[:3, 3]
        return f"voxel at ({x:.0f}, {y:.0f}, {z:.0f}) mm"

    def write_map(self, stem: Path, values_V: Values, mask: Mask) -> tuple[Path, ...]:
        return (self._save(stem, _placed(values_V, mask), None),)

    def write_series(self, stem: Path, rows_TV: Values, mask: Mask, tr_s: float) -> tuple[Path, ...]:
        return (self._save(stem, np.moveaxis(_placed(rows_TV, mask), 0, -1), tr_s),)

    def _save(self, stem: Path, volume: NDArray[np.float32], tr_s: float | None) -> Path:
        image: Any = nibabel.Nifti1Image(volume, self.affine)
        image.set_sform(self.affine, self.space_code)
        image.set_qform(self.affine, self.space_code)
        image.header.set_xyzt_units("mm", "sec")
        if tr_s is not None:
            image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
        return _written(stem, ".nii.gz", image.to_filename)

    def difference(self, other: Geometry) -> str:
        assert isinstance(other, VolumeGrid)
        if self.shape_XYZ != other.shape_XYZ:
            return f"a grid of {times(other.shape_XYZ)} voxels instead of {times(self.shape_XYZ)}"
        gap_mm = float(np.abs(self._corners() - other._corners()).max())
        if gap_mm <= AFFINE_TOLERANCE_MM:
            return ""
        return f"the same number of voxels but another affine: corners are up to {gap_mm:.3g} mm apart"

    def _corners(self) -> NDArray[np.float64]:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape_XYZ], [1.0], indexing="ij"), float)
        corners: NDArray[np.float64] = (self.affine @ ends.reshape(4, -1))[:3]
        return corners


class _Cifti(_Base, frozen=True, kw_only=True):
    """Positions along an axis of CIFTI-2."""

    xml: str
    """CIFTI-2 metadata of a map with this axis."""

    @classmethod
    def of(cls, axis: Any) -> Any:
        """Build it from nibabel's axis."""
        header: Any = cifti2.Cifti2Header.from_axes((cifti2.ScalarAxis(["map"]), axis))
        return cls(xml=header.to_xml().decode())

    @cached_property
    def axis(self) -> Any:
        """Return nibabel's axis of the positions."""
        parser: Any = cifti2.parse_cifti2.Cifti2Parser()
        parser.parse(string=self.xml.encode())
        return parser.header.get_axis(1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.axis),)

    def write_map(self, stem: Path, values_V: Values, mask: Mask) -> tuple[Path, ...]:
        return self._save(stem, "scalar", _placed(values_V[None], mask), cifti2.ScalarAxis([stem.name]))

    def write_series(self, stem: Path, rows_TV: Values, mask: Mask, tr_s: float) -> tuple[Path, ...]:
        return self._save(stem, "tseries", _placed(rows_TV, mask), cifti2.SeriesAxis(0.0, tr_s, len(rows_TV)))

    def _save(self, stem: Path, form: str, rows: NDArray[np.float32], first: Any) -> tuple[Path, ...]:
        image: Any = cifti2.Cifti2Image(rows, (first, self.axis))
        letter, intent = ("d", "DENSE") if isinstance(self, Grayordinates) else ("p", "PARCELLATED")
        image.nifti_header.set_intent(f"NIFTI_INTENT_CONNECTIVITY_{_intent(intent, form)}")
        return (_written(stem, f".{letter}{form}.nii", image.to_filename),)


def _intent(kind: str, form: str) -> str:
    if form == "tseries":
        return f"{kind}_SERIES"
    return "DENSE_SCALARS" if kind == "DENSE" else "PARCELLATED_SCALAR"


class Grayordinates(_Cifti, frozen=True, kw_only=True, tag="grayordinates"):
    """Vertices and voxels of CIFTI brain models; files are `.dtseries.nii` and `.dscalar.nii`."""

    noun = Noun("grayordinate", "grayordinates")

    @property
    def description(self) -> str:
        return f"{self.n_positions} grayordinates"

    def difference(self, other: Geometry) -> str:
        assert isinstance(other, Grayordinates)
        if self.axis == other.axis:
            return ""
        mine, theirs = self._sizes(), other._sizes()
        names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
        if not names:
            return "the same structures but other vertices or voxels"
        sizes = ", ".join(f"{n}: {theirs.get(n, 0)} instead of {mine.get(n, 0)}" for n in names[:3])
        return f"other brain models ({sizes}{', ...' if len(names) > 3 else ''})"

    def _sizes(self) -> dict[str, int]:
        return {_structure(name): len(self.axis[where]) for name, where, _ in self.axis.iter_structures()}

    def regions(self) -> Regions:
        """Return the structures of the brain models, such as `CORTEX_LEFT`."""
        labels, names = np.zeros(self.n_positions, np.int32), {}
        for n, (name, where, _) in enumerate(self.axis.iter_structures(), 1):
            labels[where], names[n] = n, _structure(name)
        return Regions(labels, names)


def _structure(name: str) -> str:
    return name.removeprefix("CIFTI_STRUCTURE_")


class CiftiParcels(_Cifti, frozen=True, kw_only=True, tag="cifti_parcels"):
    """Parcels of a CIFTI file; files are `.ptseries.nii` and `.pscalar.nii`."""

    noun = Noun("parcel", "parcels")

    @property
    def description(self) -> str:
        return f"{self.n_positions} parcels"

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each parcel."""
        return tuple(map(str, self.axis.name))

    def place(self, position: int) -> str:
        """Return the name of the parcel."""
        return self.names[position]

    def difference(self, other: Geometry) -> str:
        assert isinstance(other, CiftiParcels)
        return _other_names(self.names, other.names) or ("" if self.axis == other.axis else "parcels of other vertices")

    def regions(self) -> Regions:
        """Return each parcel as a region."""
        return _one_each(self.names)


class SurfacePair(_Base, frozen=True, kw_only=True, tag="surfaces"):
    """Vertices of the left hemisphere, then of the right one; files are pairs `hemi-L`, `hemi-R` of `.func.gii`."""

    noun = Noun("vertex", "vertices")

    n_left: int
    """Vertices of the left hemisphere."""
    n_right: int
    """Vertices of the right hemisphere."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n_left + self.n_right,)

    @property
    def description(self) -> str:
        return f"{self.n_left} + {self.n_right} vertices"

    def place(self, position: int) -> str:
        """Name the vertex by its number in its hemisphere, from 0."""
        is_left = position < self.n_left
        return f"vertex {position if is_left else position - self.n_left}, {'left' if is_left else 'right'} hemisphere"

    def write_map(self, stem: Path, values_V: Values, mask: Mask) -> tuple[Path, ...]:
        return self._save(stem, _placed(values_V[None], mask), "NIFTI_INTENT_NONE", {"Name": stem.name})

    def write_series(self, stem: Path, rows_TV: Values, mask: Mask, tr_s: float) -> tuple[Path, ...]:
        return self._save(stem, _placed(rows_TV, mask), "NIFTI_INTENT_TIME_SERIES", {"TimeStep": f"{tr_s:g}"})

    def _save(self, stem: Path, rows: NDArray[np.float32], intent: str, meta: Mapping[str, str]) -> tuple[Path, ...]:
        halves = zip(HEMISPHERES, np.split(rows, [self.n_left], axis=1), strict=True)
        paths = []
        for hemisphere, half in halves:
            structure = {"AnatomicalStructurePrimary": HEMISPHERES[hemisphere]}
            gifti: Any = nibabel.gifti
            arrays = [gifti.GiftiDataArray(row, intent, "NIFTI_TYPE_FLOAT32", meta=dict(meta)) for row in half]
            image = gifti.GiftiImage(meta=gifti.GiftiMetaData({**structure, **meta}), darrays=arrays)
            hemisphere_stem = stem.with_name(f"{stem.name}_hemi-{hemisphere}")
            paths.append(_written(hemisphere_stem, ".func.gii", image.to_filename))
        return tuple(paths)

    def difference(self, other: Geometry) -> str:
        assert isinstance(other, SurfacePair)
        return "" if self == other else f"{other.description} instead of {self.description}"

    def regions(self) -> Regions:
        """Return the two hemispheres."""
        labels = np.repeat(np.array([1, 2], np.int32), [self.n_left, self.n_right])
        return Regions(labels, {1: "left hemisphere", 2: "right hemisphere"})


class ParcelTable(_Base, frozen=True, kw_only=True, tag="parcels"):
    """Parcels without positions in space; files are `.tsv`."""

    noun = Noun("parcel", "parcels")

    names: tuple[str, ...]
    """Name of each parcel."""
    labels: tuple[int, ...] = ()
    """Atlas label of each parcel; 1, 2, ... if empty."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)

    @property
    def description(self) -> str:
        return f"{len(self.names)} parcels"

    def place(self, position: int) -> str:
        """Return the name of the parcel."""
        return self.names[position]

    def write_map(self, stem: Path, values_V: Values, mask: Mask) -> tuple[Path, ...]:
        rows = [[name, f"{value:.7g}"] for name, value in zip(self._names_in(mask), values_V.tolist(), strict=True)]
        return (_written_table(stem, [["parcel", stem.name], *rows]),)

    def write_series(self, stem: Path, rows_TV: Values, mask: Mask, tr_s: float) -> tuple[Path, ...]:
        rows = ([f"{value:.7g}" for value in row_V.tolist()] for row_V in rows_TV)
        table = _written_table(stem, chain([self._names_in(mask)], rows))
        sidecar = {"RepetitionTime": tr_s}
        return table, _written(stem, ".json", lambda path: Path(path).write_text(json.dumps(sidecar) + "\n"))

    def _names_in(self, mask: Mask) -> list[str]:
        return [name for name, inside in zip(self.names, mask.tolist(), strict=True) if inside]

    def difference(self, other: Geometry) -> str:
        assert isinstance(other, ParcelTable)
        return _other_names(self.names, other.names)

    def regions(self) -> Regions:
        """Return each parcel as a region."""
        return _one_each(self.names, self.labels)


Geometry = VolumeGrid | Grayordinates | CiftiParcels | SurfacePair | ParcelTable
"""Any geometry; `msgspec.json` encodes and decodes it by its `kind`."""


def check_same_kind(first: Geometry, other: Geometry) -> str:
    """Describe how two geometries of any kind differ; "" if they do not."""
    if type(first) is not type(other):
        return f"{other.description} instead of {first.description}"
    return first.difference(other)


def times(shape: Sequence[int | str]) -> str:
    """Format a shape as `4 x 5 x 6`."""
    return " x ".join(map(str, shape))


def _one_each(names: Sequence[str], labels: Sequence[int] = ()) -> Regions:
    numbers = np.array(labels or range(1, len(names) + 1), np.int32)
    return Regions(numbers, dict(zip(numbers.tolist(), names, strict=True)))


def _other_names(mine: Sequence[str], theirs: Sequence[str]) -> str:
    if len(mine) != len(theirs):
        return f"{len(theirs)} parcels instead of {len(mine)}"
    n = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b), None)
    return "" if n is None else f"parcel {n + 1} called {theirs[n]!r} instead of {mine[n]!r}"


def _placed(values: Values, mask: Mask) -> NDArray[np.float32]:
    """Return (..., V) values at their positions, 0 elsewhere: (..., *shape) float32; no copy if all have one."""
    if mask.ndim == 1 and mask.all():
        return np.asarray(values, np.float32)
    volumes = np.zeros((*values.shape[:-1], *mask.shape), np.float32)
    volumes[..., mask] = values
    return volumes


def _written_table(stem: Path, rows: Iterable[Sequence[str]]) -> Path:
    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)

    return _written(stem, ".tsv", write)


def _written(stem: Path, ending: str, write: Callable[[str], object]) -> Path:
    """Write a file under a temporary name, which has the same ending, and rename it."""
    path = stem.with_name(stem.name + ending)
    with _temporary(stem.with_name(f".{stem.name}.part{ending}")) as aside:
        write(str(aside))
        aside.replace(path)
    return path


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
