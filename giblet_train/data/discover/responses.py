"""Read a sample of each scan's voxels, comparable between scans. T TRs, V voxels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.discover.names import ScanName
from giblet_train.data.geometry import VolumeGrid, check_same_kind
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.image_files import UNREADABLE, check_present
from giblet_train.data.readers.repetition_time import header_seconds, sidecar_seconds
from giblet_train.data.readers.series_path import SEPARATOR, split_dataset
from giblet_train.data.readers.sidecar import read_sidecar
from giblet_train.data.readers.volumes import Volumes, check_same_geometry, nonzero_voxels, stream
from giblet_train.data.statistics.alignment import comparable
from giblet_train.data.statistics.brain_signal import DARK_SHARE, dark_voxels, unsteady_trs
from giblet_train.schema.errors import DataError
from giblet_train.schema.progress import ProgressCallback

MAX_VOXELS = 600
FEWEST_TRS = 20
SAME_TR = 1e-3


Header = tuple[ScanName, Volumes, float | None, float | None]


@dataclass(frozen=True)
class Scan:
    """One continuous scan of one subject."""

    name: ScanName
    n_trs: int
    header_s: float | None
    """TR of the header; None if it has none."""
    sidecar_s: float | None
    """TR of the sidecar; None if it has none."""
    fast_TV: NDArray[np.float32]
    """A sample of voxels without slow drifts, each with variance 1."""
    mean_V: NDArray[np.float32]
    """Mean of each of these voxels in the units of the file."""

    @property
    def stated_s(self) -> float | None:
        """Return the TR that the files state: the sidecar's before the header's."""
        return self.sidecar_s or self.header_s


@dataclass(frozen=True)
class Scans:
    """All scans that can be read."""

    tr_s: float
    """TR that most of them state."""
    scans: tuple[Scan, ...]
    problems: tuple[tuple[ScanName, DataError], ...]
    """Scans that cannot be read or do not fit the others."""


def read_scans(
    names: Sequence[ScanName],
    borders_of: Callable[[int, float], tuple[int, ...]],
    tr_s: float | None,
    progress: ProgressCallback,
) -> Scans:
    """Read all scans. Raises DataError if none can be read or none states its TR.

    Args:
        borders_of: Returns, for a number of volumes and a TR, the volumes at which further scans of a file begin.
        tr_s: TR of files that state none; None without.
    """
    problems: list[tuple[ScanName, DataError]] = []
    headers: list[Header] = []
    for name in names:
        try:
            header_s, sidecar_s = stated_trs(name.path)
            stated_s = sidecar_s or header_s or tr_s
            headers.append((name, read_header(name.path, stated_s or 1.0, "config"), header_s, sidecar_s))
        except DataError as error:
            problems.append((name, error))
    headers = _of_one_grid([h for h in headers if h[1].n_trs >= FEWEST_TRS], problems)
    # A name of its own: the assignment in the generator would replace the argument.
    tr_counts = Counter(
        round(header_tr_s, 4) for _, _, header_s, sidecar_s in headers if (header_tr_s := sidecar_s or header_s)
    )
    if not headers:
        if problems:
            raise DataError(f"The folder has no readable scan. {problems[0][1].message}", problems[0][1].remedy)
        raise DataError(
            f"The folder has no scan of at least {FEWEST_TRS} volumes.", "Put 4-D NIfTI files of the runs into it."
        )
    if not tr_counts and tr_s is None:
        raise DataError(
            f"No scan states its TR, such as {headers[0][0].path}.",
            "Give it with --tr, or as RepetitionTime in a .json next to the scans.",
        )
    tr_s = tr_counts.most_common(1)[0][0] if tr_counts else tr_s
    assert tr_s is not None
    scans: list[Scan] = []
    mask: NDArray[np.bool_] | None = None
    for n, (name, volumes, header_s, sidecar_s) in enumerate(headers):
        progress(f"reading {name.path.name}", n / len(headers))
        try:
            mask = _sample(volumes) if mask is None else mask
            values_TV = np.concatenate([part for _, part in stream(volumes, mask)])
        except DataError as error:
            problems.append((name, error))
            continue
        values_TV = np.nan_to_num(values_TV, posinf=0.0, neginf=0.0)
        borders = () if name.run else borders_of(len(values_TV), tr_s)
        for part, part_TV in zip(_part_names(name, len(values_TV), borders), np.split(values_TV, borders), strict=True):
            steady_TV = _steady(part_TV)
            fast_TV = comparable(steady_TV, tr_s)
            scans.append(Scan(part, len(part_TV), header_s, sidecar_s, fast_TV, steady_TV.mean(axis=0)))
    if not scans:
        raise DataError(f"No scan can be read. {problems[0][1].message}", problems[0][1].remedy)
    return Scans(tr_s, tuple(scans), tuple(problems))


def _steady(values_TV: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return values in which first volumes that are not in the steady state have the mean of the others.

    All scans have such volumes in common, so that scans of different people would look like copies.
    """
    n_trs = unsteady_trs(values_TV.mean(axis=1))
    if not n_trs:
        return values_TV
    steady_TV = values_TV.copy()
    steady_TV[:n_trs] = values_TV[n_trs:].mean(axis=0)
    return steady_TV


def _part_names(name: ScanName, n_trs: int, borders: Sequence[int]) -> list[ScanName]:
    """Return the name of each scan in a file, which are runs 1, 2, ... if there are several."""
    if not borders:
        return [name]
    starts, stops = (0, *borders), (*borders, n_trs)
    return [
        replace(name, path=Path(f"{name.path}{SEPARATOR}{start}-{stop - 1}"), run=str(n))
        for n, (start, stop) in enumerate(zip(starts, stops, strict=True), 1)
    ]


def stated_trs(path: Path) -> tuple[float | None, float | None]:
    """Return the TR of the header and of the sidecar, None where there is none. Raises DataError."""
    file, _ = split_dataset(path)
    return header_tr(path), sidecar_seconds(read_sidecar(file), file)[0]


def header_tr(path: Path) -> float | None:
    """Return the TR of an image's header in seconds; None if it states none. Raises DataError."""
    check_present(split_dataset(path)[0])
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")) or name.endswith((".dtseries.nii", ".ptseries.nii")):
        return _tr_without_grid(path)
    try:
        header = nibabel.load(path).header
        value, unit = float(header.get_zooms()[3]), header.get_xyzt_units()[1]
    except (*UNREADABLE, IndexError, AttributeError) as error:
        raise DataError(f"{path} is not a readable series: {error}.", "Copy it again from its source.") from None
    return header_seconds(value, unit, path)[0]


def _tr_without_grid(path: Path) -> float | None:
    """Return the TR in the header of a series that is no volume; None without one, also if it is unreadable."""
    try:
        return read_header(path, None, "header").tr_s
    except DataError:
        return None


def _of_one_grid(headers: Sequence[Header], problems: list[tuple[ScanName, DataError]]) -> list[Header]:
    """Return the scans on the grid of most; the others become problems."""
    groups: list[list[Volumes]] = []
    for _, volumes, _, _ in headers:
        alike = next((g for g in groups if not check_same_kind(g[0].geometry, volumes.geometry)), None)
        groups.append([volumes]) if alike is None else alike.append(volumes)
    if len(groups) < 2:
        return list(headers)
    like = max(groups, key=len)[0]
    of_usual_grid = []
    for header in headers:
        try:
            check_same_geometry(like, header[1])
            of_usual_grid.append(header)
        except DataError as error:
            problems.append((header[0], error))
    return of_usual_grid


def _sample(volumes: Volumes) -> NDArray[np.bool_]:
    """Return a mask of at most MAX_VOXELS voxels, at regular distances among those of the brain.

    These are not zero and, in scans that are not masked, not as dark as what is around the brain. The dark rim of a
    masked brain stays, because it distinguishes one brain from another.
    """
    nonzero = nonzero_voxels(volumes)
    places = np.flatnonzero(nonzero)
    if isinstance(volumes.geometry, VolumeGrid):
        _, first_BV = next(stream(volumes, nonzero, 1))
        dark_V = dark_voxels(first_BV[0])
        places = places[~dark_V] if dark_V.mean() >= DARK_SHARE else places
    mask = np.zeros(nonzero.size, bool)
    mask[places[:: -(-len(places) // MAX_VOXELS)]] = True
    return mask.reshape(nonzero.shape)


def is_same_tr(first_s: float | None, second_s: float | None) -> bool:
    """Return True if both are known and equal."""
    return first_s is not None and second_s is not None and isclose(first_s, second_s, rel_tol=SAME_TR)
