"""Replace volumes by the means of the parcels of an atlas.

B TRs of one chunk, V voxels inside a parcel, P parcels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

from giblet_train.data.geometry import CiftiParcels, Geometry, Grayordinates, ParcelTable
from giblet_train.data.readers.volumes import VolumeReader, Volumes
from giblet_train.schema.errors import DataError


@dataclass(frozen=True)
class MeanReader:
    """Reads the mean of each parcel."""

    voxels: VolumeReader
    inside: NDArray[np.bool_]
    """Voxels that belong to a parcel."""
    order_V: NDArray[np.intp]
    """Those voxels sorted by parcel."""
    start_P: NDArray[np.intp]
    """First voxel of each parcel in that order."""

    @property
    def n_trs(self) -> int:
        """Return the volumes of the file."""
        return self.voxels.n_trs

    def chunks(self, mask: NDArray[np.bool_], first: int, n_trs: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (volumes read before, (B, parcels of the mask) float32)."""
        size_P = np.diff(np.append(self.start_P, len(self.order_V)))
        for start, bold_BV in self.voxels.chunks(self.inside, first, n_trs):
            sum_BP = np.add.reduceat(bold_BV[:, self.order_V].astype(np.float64), self.start_P, axis=1)
            yield start, (sum_BP / size_P)[:, mask].astype(np.float32)


def with_parcel_means(
    volumes: Mapping[str, Volumes], labels: NDArray[np.int32], inside: NDArray[np.bool_], names: Mapping[int, str]
) -> dict[str, Volumes]:
    """Return the subjects' series of parcel means.

    Raises DataError if the geometry has parcels already.

    Args:
        labels: Parcel of each position, 0 outside.
        inside: Positions that count: those that all subjects and the mask have, inside a parcel.
        names: Label -> name of every parcel that contains such a position.
    """
    geometry = next(iter(volumes.values())).geometry
    label_V = labels[inside]
    order_V = np.argsort(label_V, kind="stable")
    numbers_P, start_P = np.unique(label_V[order_V], return_index=True)
    parcels = _geometry(geometry, labels * inside, {int(n): names[int(n)] for n in numbers_P})

    def means(run: Volumes) -> Volumes:
        reader = MeanReader(run.reader, inside, order_V, start_P)
        return replace(run, geometry=parcels, reader=reader, later_runs=tuple(map(means, run.later_runs)))

    return {subject: means(run) for subject, run in volumes.items()}


def _geometry(geometry: Geometry, labels: NDArray[np.int32], names: Mapping[int, str]) -> Geometry:
    if isinstance(geometry, CiftiParcels | ParcelTable):
        raise DataError("The BOLD files have parcels already.", "Set data.parcellate: false.")
    if isinstance(geometry, Grayordinates):
        models = [(name, geometry.axis[np.flatnonzero(labels == label)]) for label, name in names.items()]
        parcels: CiftiParcels = CiftiParcels.of(cifti2.ParcelsAxis.from_brain_models(models))
        return parcels
    return ParcelTable(names=tuple(names.values()), labels=tuple(names))
