"""Measured responses of one person, on a model's voxels and in its units.

T volumes, V voxels of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid, check_same_kind
from giblet_train.data.preprocessing.detrend import Block, Detrend
from giblet_train.data.readers.headers import read_header
from giblet_train.data.readers.image_files import check_present
from giblet_train.data.readers.volumes import Volumes, stream
from giblet_train.portable.arguments import as_singles, as_tr_s
from giblet_train.portable.model_file import ModelFile
from giblet_train.portable.option_words import in_options, options_for_keys
from giblet_train.portable.regrid import Regridding
from giblet_train.schema.errors import DataError

Singles = NDArray[np.float32]
LEAST_COVERED = 0.9
"""Share of the model's voxels that a series on another grid must cover."""
MOST_UNSHARED_S = 10.0
"""Seconds by which film and scan may differ without a note: many scans end a little after their film."""
TEMPLATES = {3: "Talairach", 4: "MNI"}
"""NIfTI codes of spaces that cannot be taken for one another."""


@dataclass(frozen=True)
class Measured:
    """A series of volumes of one person."""

    bold_TV: Singles
    """Responses, in the units of the file."""
    tr_s: float
    """Seconds per volume."""
    drift: Detrend
    """Drift that the model's responses lack."""
    notes: tuple[str, ...] = ()
    """A sentence for whatever had to be done to fit the file to the model."""

    def parts(self, blocks: Sequence[Block], scale: slice) -> Singles:
        """Return the rows of the blocks, one block after another, each without its drift, z-scored over some of them.

        scale: rows of the result that define mean and standard deviation.
        """
        rows_TV = np.concatenate([self.bold_TV[start:stop] for start, stop in blocks])
        rows_TV = self.drift.apply(rows_TV, blocks)
        mean_V, sd_V = rows_TV[scale].mean(axis=0), rows_TV[scale].std(axis=0)
        inverse_V = np.divide(1.0, sd_V, out=np.zeros_like(sd_V), where=sd_V > 1e-6)
        return np.asarray((rows_TV - mean_V) * inverse_V, np.float32)

    def whole(self) -> Singles:
        """Return all rows without drift, z-scored over all rows."""
        return self.parts([(0, len(self.bold_TV))], slice(None))


def length_notes(measured: Measured, film_s: float) -> tuple[str, ...]:
    """Return a sentence if scan and film have different lengths, which a wrong film or a wrong TR would have too."""
    scan_s = len(measured.bold_TV) * measured.tr_s
    if abs(scan_s - film_s) <= MOST_UNSHARED_S:
        return ()
    sentence = (
        f"The scan lasts {scan_s:.0f} s ({len(measured.bold_TV)} volumes of {measured.tr_s:g} s), the film "
        f"{film_s:.0f} s; the first {min(scan_s, film_s):.0f} s of both are used."
    )
    return (sentence,)


def read_measured(model: ModelFile, bold: Path | NDArray[Any], tr_s: float | None) -> Measured:
    """Read the series of one person.

    Args:
        model: model whose voxels are read.
        bold: file in the model's space (NIfTI on any grid, CIFTI, GIFTI, parcels), or an array (T, V) of the model's
            voxels.
        tr_s: seconds per volume; None for those of the file, or of the model for an array.

    Raises DataError for an unreadable file, another space, a TR that is not stated, or values that are not finite.
    """
    notes: tuple[str, ...] = ()
    tr_s = None if tr_s is None else as_tr_s(tr_s)
    many = model.header.geometry.noun.many
    if isinstance(bold, Path):
        with options_for_keys():
            values_TV, file_tr_s, notes = _read_file(model, bold, tr_s)
        name = str(bold)
    else:
        values_TV, file_tr_s, name = _numbers(bold, many), model.header.tr_s, "The array"
        n_positions = int(model.mask.sum())
        if values_TV.ndim != 2 or values_TV.shape[1] != n_positions:
            hint = ", so it is transposed" if values_TV.ndim == 2 and len(values_TV) == n_positions else ""
            raise DataError(
                f"The array has shape {values_TV.shape}; the model has {n_positions} {many}{hint}.",
                f"Give (volumes, {many}), in C order of model.geometry.mask.",
            )
    if not len(values_TV):
        raise DataError(f"{name} has no volume.", "Check that it is the right series.")
    broken_TV = ~np.isfinite(values_TV)
    if broken_TV.any():
        raise DataError(
            f"{name} has values that are not finite in {int(broken_TV.any(axis=0).sum())} of the model's "
            f"{values_TV.shape[1]} {many}, first in volume {int(broken_TV.any(axis=1).argmax()) + 1}.",
            f"Set {many} without data to 0 in all volumes; they are then left out.",
        )
    if not (values_TV.std(axis=0) > 0).any():
        raise DataError(f"{name} never changes in the model's {many}.", "Check that it is the right file.")
    used_s = file_tr_s if tr_s is None else tr_s
    kind: Any = model.header.detrend
    return Measured(values_TV, used_s, Detrend(kind, used_s), notes)


def _numbers(bold: Any, many: str) -> Singles:
    """Return an array as numbers. Raises DataError for anything else. many: what the model's positions are called."""
    if hasattr(bold, "dataobj"):
        raise DataError(f"The responses are a {type(bold).__name__}, not an array.", "Give the path of its file.")
    return as_singles(bold, "The array", f"Give (volumes, {many}), or the path of a file.")


def _read_file(model: ModelFile, path: Path, tr_s: float | None) -> tuple[Singles, float, tuple[str, ...]]:
    """Return the series (T, V), its TR, and notes. tr_s: a stated TR, which wins over that of the file."""
    check_present(path)
    volumes = read_header(path, tr_s, None if tr_s is None else "config")
    notes = tuple(in_options(note.sentence) for note in volumes.notes)
    difference = check_same_kind(model.header.geometry, volumes.geometry)
    if not difference:
        return np.concatenate([bold_BV for _, bold_BV in stream(volumes, model.mask)]), volumes.tr_s, notes
    if isinstance(volumes.geometry, VolumeGrid) and isinstance(model.header.geometry, VolumeGrid):
        series_TV, note = _on_grid_of(model, model.header.geometry, volumes, volumes.geometry, difference)
        return series_TV, volumes.tr_s, (*notes, note)
    raise DataError(
        f"{path} does not fit the model: it has {difference}.",
        "Resample it to the model's space, which a predicted series has.",
    )


def _on_grid_of(
    model: ModelFile, grid: VolumeGrid, volumes: Volumes, source: VolumeGrid, difference: str
) -> tuple[Singles, str]:
    """Return a series (T, V) that is interpolated to the model's voxels, and a note.

    Raises DataError if it is not in the model's space: by its header, by its size, or because it does not cover the
    model's voxels.
    """
    impossible = next((note.sentence for note in volumes.notes if note.finding == "grid_size"), None)
    if impossible is not None:
        raise DataError(impossible, "Give three axes of space in millimetres, then time.")
    codes = {source.space_code, grid.space_code}
    if len(codes) == 2 and codes <= set(TEMPLATES):
        raise DataError(
            f"{volumes.path} is in {TEMPLATES[source.space_code]} space; the model is in "
            f"{TEMPLATES[grid.space_code]} space.",
            "Normalise it to the model's template.",
        )
    regridding = Regridding.of(source, grid, model.mask)
    share = float(regridding.covered_V.mean())
    if share < LEAST_COVERED:
        raise DataError(
            f"{volumes.path} does not fit the model: it has {difference}, and covers {share:.0%} of its voxels.",
            "Normalise it to the model's template; any grid that covers the brain will do.",
        )
    coverage_note = (
        "" if share == 1.0 else f" {share:.1%} of the model's voxels are inside it; the others are left out."
    )
    note = f"{volumes.path.name} has {difference}; it is interpolated to the model's voxels.{coverage_note}"
    return np.concatenate(list(regridding.series(volumes))), note
