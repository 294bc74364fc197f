"""Build the arrays of a store from the files of a study.

T TRs, V voxels, which may also be vertices or parcels.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import Geometry
from giblet_train.data.preprocessing.confounds import ConfoundRows, read_run_confounds
from giblet_train.data.readers.atlas import parcel_names, read_parcels
from giblet_train.data.readers.maps import Map, read_mask
from giblet_train.data.readers.study_files import Sources
from giblet_train.data.readers.volumes import Volumes, nonzero_voxels
from giblet_train.data.statistics.lag import average_lag, offset_from_lag
from giblet_train.data.stimulus.feature_cache import FeatureCache
from giblet_train.data.stimulus.features import Stimulus, read_stimuli
from giblet_train.data.store.bold_array import write_bold_array
from giblet_train.data.store.layout import Layout, layout_of_files, layout_of_table
from giblet_train.data.store.parcel_means import with_parcel_means
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError, PreflightRefused
from giblet_train.schema.progress import ProgressCallback, subrange

FEATURES, SHOWN = "features", "shown"
"""Folders of a store: the features of each space, and the rows that have it."""
SPARE_BYTES = 64 * 1024 * 1024
BRAINS_SHARE = 0.6
"""How much of a build's time the brains take, for its progress."""


@dataclass(frozen=True)
class BuiltArrays:
    """Facts of the arrays that were written."""

    layout: Layout
    stimulus: Stimulus
    geometry: Geometry
    masked: bool
    parcel_names: Mapping[int, str]
    codes: Mapping[str, int]
    notes: tuple[str, ...]


def build_arrays(
    folder: Path, sources: Sources, config: Config, progress: ProgressCallback, cache: FeatureCache
) -> BuiltArrays:
    """Write every array of the store into `folder`.

    Raises DataError if the files do not fit each other, PreflightRefused if the disk is too full.
    """
    layout = layout_of_table(sources, config) if sources.runs else layout_of_files(sources, config)
    mask = _common_voxels(layout.volumes, sources.brain_masks, progress)
    file_mask = None if sources.mask is None else _given_mask(sources.mask, layout.geometry, mask)
    regions = _regions(sources.atlas, layout.geometry, mask)
    if config.data.parcellate:
        layout, mask, file_mask = _parcellated(layout, regions, mask, file_mask)
        regions = replace(_regions(None, layout.geometry, mask), notes=regions.notes)
    volumes = layout.volumes
    _check_space(folder, layout, mask)
    np.save(folder / "mask.npy", mask)
    if file_mask is not None:
        np.save(folder / "given_mask.npy", file_mask[mask])
    if regions.names:
        np.save(folder / "parcels.npy", regions.values[mask])
    _write_bold_arrays(folder, layout, mask, progress)
    columns = _write_confounds(folder, volumes, sources, config.data.bids.confounds or ())
    if not sources.runs and config.data.stimulus_offset_s == "auto":
        offset_s = _measured_offset(folder, layout, config, cache)
        file_layout = layout_of_files(sources, config, offset_s)
        notes = (*file_layout.notes, _offset_note(offset_s, file_layout.tr_s))
        layout = replace(file_layout, volumes=layout.volumes, notes=notes)
    stimulus = _read_stimulus(layout, config, subrange(progress, BRAINS_SHARE, 1.0), cache)
    _write_stimulus(folder, stimulus)
    return BuiltArrays(
        layout=layout,
        stimulus=stimulus,
        geometry=layout.geometry,
        masked=file_mask is not None,
        parcel_names=regions.names,
        codes=_codes(layout),
        notes=(
            *(note.sentence for v in volumes.values() for note in v.notes),
            *_brain_mask_notes(volumes, sources.brain_masks),
            *regions.notes,
            *layout.notes,
            *stimulus.notes,
            *columns,
        ),
    )


def _read_stimulus(layout: Layout, config: Config, progress: ProgressCallback, cache: FeatureCache) -> Stimulus:
    return read_stimuli(layout.stimuli, layout.spans, layout.n_trs, layout.tr_s, config, progress, cache)


def _codes(layout: Layout) -> dict[str, int]:
    """Return feature space -> codes in a book. Raises DataError if stimuli differ."""
    codes: dict[str, int] = {}
    for name, source in layout.stimuli.items():
        for modality, feature in source.features.items():
            if feature.codes is not None and codes.setdefault(modality, feature.codes) != feature.codes:
                raise DataError(
                    f"{name} has another number of {modality} codes than the others.", "Use the same codes."
                )
    return codes


def _common_voxels(
    volumes: Mapping[str, Volumes], brain_masks: Mapping[str, Sequence[Path]], progress: ProgressCallback
) -> NDArray[np.bool_]:
    """Return the voxels that are non-zero in every run of every subject and inside every brain mask."""
    progress("finding the voxels that all subjects have", 0.0)
    masks = [nonzero_voxels(run) for v in volumes.values() for run in (v, *v.later_runs)]
    geometry = next(iter(volumes.values())).geometry
    masks += [read_mask(path, geometry) for s, paths in brain_masks.items() if s in volumes for path in paths]
    common = np.logical_and.reduce(masks)
    if not common.any():
        raise DataError("No voxel is different from zero in every subject.", "Check that the files share one space.")
    return np.asarray(common)


def _write_bold_arrays(folder: Path, layout: Layout, mask: NDArray[np.bool_], progress: ProgressCallback) -> None:
    (folder / "bold").mkdir()
    (folder / "reference").mkdir()
    mask_file = folder / "given_mask.npy"
    used_V = np.load(mask_file) if mask_file.is_file() else None
    for n, (subject, volumes) in enumerate(layout.volumes.items()):
        progress(f"reading {subject}", BRAINS_SHARE * n / len(layout.volumes))
        n_trs = layout.stored_trs or volumes.n_trs
        reference_V = write_bold_array(folder / "bold" / f"{subject}.npy", volumes, mask, n_trs, used_V)
        np.save(folder / "reference" / f"{subject}.npy", reference_V)


def _write_confounds(
    folder: Path, volumes: Mapping[str, Volumes], sources: Sources, patterns: Sequence[str]
) -> tuple[str, ...]:
    """Write every subject's confounds, one run after another; return a note that names them."""
    if not sources.confounds:
        return ()
    (folder / "confounds").mkdir()
    for subject, tables in sources.confounds.items():
        if subject not in volumes:
            continue
        table_of = dict(zip(sources.bold[subject], tables, strict=True))
        runs = (volumes[subject], *volumes[subject].later_runs)
        parts = [ConfoundRows(table_of[run.path], run.reader.n_trs, run.first, run.file_trs) for run in runs]
        values_TN = read_run_confounds(parts, patterns)
        np.save(folder / "confounds" / f"{subject}.npy", values_TN)
    return (f"Confounds {', '.join(patterns)} are regressed out, by weights from training TRs only.",)


def _brain_mask_notes(volumes: Mapping[str, Volumes], brain_masks: Mapping[str, Sequence[Path]]) -> list[str]:
    n_runs = sum(len({run.path for run in (v, *v.later_runs)}) for v in volumes.values())
    n_masks = sum(map(len, brain_masks.values()))
    if n_masks in (0, n_runs):
        return []
    return [f"{n_runs - n_masks} of {n_runs} runs have no brain mask; those of the others are used."]


def _measured_offset(folder: Path, layout: Layout, config: Config, cache: FeatureCache) -> float:
    """Return the offset that makes the lag haemodynamic, from the lag measured at offset 0."""
    stimulus = _read_stimulus(layout, config, lambda _sentence, _share: None, cache)
    rows = slice(layout.first_tr, layout.first_tr + layout.n_trs)
    bold = {s: np.load(folder / "bold" / f"{s}.npy", mmap_mode="r")[rows] for s in layout.volumes}
    lag = average_lag(stimulus.features, bold, layout.block_lengths_trs, layout.tr_s)
    return offset_from_lag(lag, layout.tr_s)


def _offset_note(offset_s: float, tr_s: float) -> str:
    return (
        f"data.stimulus_offset_s: auto found {offset_s:g} s ({round(offset_s / tr_s)} TRs): the film is there when "
        "the first volume begins."
    )


def _write_stimulus(folder: Path, stimulus: Stimulus) -> None:
    if stimulus.frames_TKHWC is not None:
        np.save(folder / "frames.npy", stimulus.frames_TKHWC)
    (folder / FEATURES).mkdir()
    for space, features_TF in stimulus.features.items():
        np.save(folder / FEATURES / f"{space}.npy", features_TF)
    (folder / SHOWN).mkdir()
    for space, shown_T in stimulus.shown.items():
        if not shown_T.all():
            np.save(folder / SHOWN / f"{space}.npy", shown_T)


def _given_mask(path: Path, geometry: Geometry, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Read a mask file, in the shape of the geometry. Raises DataError if it has no voxel of the brains."""
    file_mask = read_mask(path, geometry)
    if not (file_mask & mask).any():
        raise DataError(f"{path} shares no voxel with the brains.", "Check that it is in their space.")
    return file_mask


def _regions(atlas: Path | None, geometry: Geometry, mask: NDArray[np.bool_]) -> Map:
    """Return the parcels that contain a voxel: of the atlas, else those that the geometry has by itself."""
    if atlas is None:
        own = geometry.regions()
        return Map(np.zeros(geometry.shape, np.int32)) if own is None else Map(own.labels, own.names)
    parcels = read_parcels(atlas, geometry)
    labels = np.unique(parcels.values[mask & (parcels.values > 0)]).tolist()
    if not labels:
        raise DataError(f"No voxel of the brains is in a parcel of {atlas}.", "Check that it is in their space.")
    return replace(parcels, names=parcel_names(atlas, labels, parcels.names))


def _parcellated(
    layout: Layout, regions: Map, mask: NDArray[np.bool_], file_mask: NDArray[np.bool_] | None
) -> tuple[Layout, NDArray[np.bool_], None]:
    """Return the layout of parcel means, and a mask of all parcels."""
    inside = mask & (regions.values > 0) & (True if file_mask is None else file_mask)
    if not regions.names or not inside.any():
        raise DataError("data.parcellate needs parcels that contain voxels of the brains.", "Set data.atlas.")
    volumes = with_parcel_means(layout.volumes, regions.values, inside, regions.names)
    geometry = next(iter(volumes.values())).geometry
    note = f"The means of {geometry.n_positions} parcels are used instead of {int(inside.sum())} voxels."
    return replace(layout, volumes=volumes, notes=(*layout.notes, note)), np.ones(geometry.shape, bool), None


def _check_space(folder: Path, layout: Layout, mask: NDArray[np.bool_]) -> None:
    n_trs = sum(layout.stored_trs or volumes.n_trs for volumes in layout.volumes.values())
    n_bytes = n_trs * int(mask.sum()) * 2 + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise PreflightRefused(
            f"The store needs {n_bytes / 2**30:.1f} GiB, {folder.parent} has {free / 2**30:.1f} GiB free.",
            "Free some space or choose another workdir.",
        )
