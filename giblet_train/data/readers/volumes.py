"""A subject's series as volumes in time, whatever file holds them.

A volume is all values of one TR: voxels of a grid, grayordinates, vertices or parcels. T TRs, B TRs of one chunk, V
positions of a mask in C order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import Geometry, check_same_kind
from giblet_train.data.readers.repetition_time import TR_TOLERANCE, HeaderNote, TrConflictError
from giblet_train.schema.errors import DataError

CHUNK_BYTES = 4 * 1024 * 1024
PRESENCE_TRS = 8


class VolumeReader(Protocol):
    """Reads the volumes of one file."""

    @property
    def n_trs(self) -> int:
        """Return the volumes of the file."""

    def chunks(self, mask: NDArray[np.bool_], first: int, n_trs: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield (volumes read before, (B, V) float32) over n_trs volumes from `first` on. Raises DataError."""


@dataclass(frozen=True)
class Volumes:
    """Header of a subject's file, possibly followed by the files of later runs."""

    path: Path
    geometry: Geometry
    n_trs: int
    """Volumes of all runs."""
    file_trs: int
    """Volumes of this file that are used."""
    tr_s: float
    """Seconds per volume."""
    reader: VolumeReader
    first: int = 0
    """First volume of the file that is used."""
    notes: tuple[HeaderNote, ...] = ()
    """A sentence for each thing in the headers that had to be interpreted."""
    later_runs: tuple[Volumes, ...] = ()
    """Headers of the following runs."""

    @property
    def run_lengths_trs(self) -> tuple[int, ...]:
        """Return the number of volumes of each run."""
        return (self.file_trs, *(run.file_trs for run in self.later_runs))

    def part(self, first: int, n_trs: int) -> Volumes:
        """Return some volumes of this file alone."""
        return replace(self, first=self.first + first, file_trs=n_trs, n_trs=n_trs, later_runs=())


def joined(runs: tuple[Volumes, ...]) -> Volumes:
    """Return runs as one series."""
    if len(runs) == 1:
        return runs[0]
    return replace(
        runs[0],
        n_trs=sum(run.n_trs for run in runs),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
        later_runs=runs[1:],
    )


def stream(
    volumes: Volumes, mask: NDArray[np.bool_], n_trs: int | None = None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Read the masked volumes in order, once, a few at a time.

    Yields (index of the chunk's first TR, (B, V) float32) over the first n_trs volumes (all if None). The memory for
    NIfTI volumes does not depend on the number of TRs. Raises DataError if a file ends early or is damaged.
    """
    remaining = volumes.n_trs if n_trs is None else min(n_trs, volumes.n_trs)
    start = 0
    for run in (volumes, *volumes.later_runs):
        own = min(remaining, run.file_trs)
        if own:
            yield from ((start + n_read, bold_BV) for n_read, bold_BV in run.reader.chunks(mask, run.first, own))
        remaining -= own
        start += run.file_trs


def nonzero_voxels(volumes: Volumes) -> NDArray[np.bool_]:
    """Return the positions, in the geometry's shape, with a finite value other than 0 in one of the first volumes.

    A voxel outside the scanned or masked region is zero throughout; a few volumes distinguish it from one that passes
    through zero. Volumes that are zero altogether, such as dummy scans, do not count. Raises DataError.
    """
    shape = volumes.geometry.shape
    nonzero_N, n_volumes = np.zeros(volumes.geometry.n_positions, bool), 0
    for _, bold_BN in stream(volumes, np.ones(shape, bool)):
        nonzero_BN = (bold_BN != 0) & np.isfinite(bold_BN)
        nonzero_BN = nonzero_BN[nonzero_BN.any(axis=1)][: PRESENCE_TRS - n_volumes]
        nonzero_N |= nonzero_BN.any(axis=0)
        n_volumes += len(nonzero_BN)
        if n_volumes >= PRESENCE_TRS:
            break
    if not n_volumes:
        raise DataError(
            f"{volumes.path} is zero throughout.", "Copy it again, or leave the subject out by data.subjects."
        )
    return nonzero_N.reshape(shape)


def check_alike(volumes: Sequence[Volumes]) -> None:
    """Raise DataError where a file's geometry or TR differs from those of the first."""
    for other in volumes[1:]:
        check_same_geometry(volumes[0], other)
        check_same_tr(volumes[0], other)


def check_same_tr(first: Volumes, other: Volumes) -> None:
    """Raise TrConflictError where the repetition times of two files differ."""
    if math.isclose(first.tr_s, other.tr_s, rel_tol=TR_TOLERANCE):
        return
    raise TrConflictError(
        f"{other.path}: the TR is {other.tr_s:g} s; that of {first.path} is {first.tr_s:g} s.",
        "Leave the run or subject out, or set data.tr and data.trust_tr: config if a header is wrong.",
    )


def check_same_geometry(first: Volumes, other: Volumes) -> None:
    """Raise DataError where the positions of two files differ, such as their grids or affines."""
    difference = check_same_kind(first.geometry, other.geometry)
    if not difference:
        return
    a, b = first.path.name, other.path.name
    if a == b:
        a, b = str(first.path), str(other.path)
    raise DataError(
        f"{b} does not fit {a}: {difference}.",
        "All subjects must be in one space: resample to one template, or leave the subject out by data.subjects.",
    )
