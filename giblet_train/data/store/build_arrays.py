"""The arrays of a store, made from the files of a study: film and brains on one clock, each once.

T TRs, V voxels, X Y Z grid.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.confounds import read_run_confounds
from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.annotations import check_unit, read_runs
from giblet_train.data.readers.atlas import parcel_names, read_parcels
from giblet_train.data.readers.nifti import nonzero_voxels, read_mask
from giblet_train.data.readers.nifti_header import Volumes, check_same_grid, read_headers
from giblet_train.data.readers.repetition_time import TrustTr
from giblet_train.data.readers.study_files import Progress, Sources
from giblet_train.data.readers.timeline import Timeline, over_film, scan_timeline
from giblet_train.data.statistics.lag import average_lag, offset_from_lag
from giblet_train.data.stimulus.features import Stimulus, read_stimulus
from giblet_train.data.stimulus.video import film_seconds
from giblet_train.data.store.bold_array import write_bold_array
from giblet_train.schema.config import Config
from giblet_train.schema.errors import DataError, PreflightRefused

SPARE_BYTES = 64 * 1024 * 1024
BRAINS_SHARE = 0.6
"""How much of a build's time the brains take, for its progress."""


@dataclass(frozen=True)
class BuiltArrays:
    """Facts of the arrays that were written."""

    timeline: Timeline
    stimulus: Stimulus
    grid_XYZ: tuple[int, int, int]
    """Voxels along each axis."""
    affine: NDArray[np.float64]
    """(4, 4), voxel to mm."""
    masked: bool
    parcel_names: Mapping[int, str]
    codes: Mapping[str, int]
    space_code: int
    notes: tuple[str, ...]


def build_arrays(folder: Path, sources: Sources, config: Config, progress: Progress) -> BuiltArrays:
    """Write every array of the store into `folder`.

    Raises DataError where the files do not fit one another, PreflightRefused where the disk is too full.
    """
    volumes = read_subjects(sources.bold, config.data.tr, config.data.trust_tr)
    first = next(iter(volumes.values()))
    scans = common_scans(list(volumes.values()), config.data.scan_lengths_trs)
    film_s = film_seconds(sources.film)
    annotations = read_runs(sources.annotations, scans.tr_s, scans.scan_lengths_trs)
    check_unit(annotations.segments, film_s, scans.n_trs * scans.tr_s, "data.annotations")
    segments = annotations.segments
    stated_offset = config.data.stimulus_offset_s
    timeline = over_film(scans, film_s, 0.0 if stated_offset == "auto" else stated_offset, config.split.usable_trs)
    stop_tr = scans.n_trs if stated_offset == "auto" else timeline.first_tr + timeline.n_trs
    mask_XYZ = _common_voxels(volumes, sources.brain_masks, progress)
    _check_space(folder, volumes, mask_XYZ, stop_tr)
    _write_mask(folder, sources.mask, first, mask_XYZ)
    _write_bold_arrays(folder, volumes, mask_XYZ, stop_tr, progress)
    columns = _write_confounds(folder, volumes, sources.confounds, config.data.bids.confounds or ())
    if stated_offset == "auto":
        offset_s = _measured_offset(folder, list(volumes), timeline, segments, sources, config)
        timeline = over_film(scans, film_s, offset_s, config.split.usable_trs)
        timeline = replace(timeline, notes=(*timeline.notes, _offset_note(offset_s, timeline.tr_s)))
    stimulus = read_stimulus(sources, segments, timeline, config, _subrange(progress, BRAINS_SHARE, 1.0))
    _write_stimulus(folder, stimulus)
    parcels = _write_parcels(folder, sources.atlas, first, mask_XYZ)
    return BuiltArrays(
        timeline=timeline,
        stimulus=stimulus,
        grid_XYZ=first.shape_XYZ,
        affine=first.affine,
        masked=sources.mask is not None,
        parcel_names=parcels,
        codes={m: s.codes for m, s in config.data.features.brought().items() if s.codes is not None},
        space_code=first.space_code,
        notes=(
            *(note.sentence for v in volumes.values() for note in v.notes),
            *_brain_mask_notes(volumes, sources.brain_masks),
            *annotations.notes,
            *timeline.notes,
            *columns,
        ),
    )


def read_subjects(bold: Mapping[str, Sequence[Path]], tr_s: float, trust: TrustTr = None) -> dict[str, Volumes]:
    """Read every subject's headers and check that all share one grid. Raises DataError."""
    volumes = {subject: read_headers(paths, tr_s, trust) for subject, paths in bold.items()}
    first, *others = volumes.values()
    for other in others:
        check_same_grid(first, other)
    return volumes


def common_scans(volumes: Sequence[Volumes], scan_lengths_trs: Sequence[int] | None) -> Timeline:
    """Return the scans that every subject has: the runs of multi-file subjects, else the stated lengths.

    Raises DataError if lengths differ and no scan lengths are stated, or if these differ from the runs.
    """
    first = volumes[0]
    if first.later_runs:
        return _common_runs(volumes, scan_lengths_trs)
    shortest = min(volumes, key=lambda v: v.n_trs)
    longest = max(volumes, key=lambda v: v.n_trs)
    if scan_lengths_trs is None and shortest.n_trs != longest.n_trs:
        raise DataError(
            f"{shortest.path.name} has {shortest.n_trs} TRs, {longest.path.name} has {longest.n_trs}.",
            "State the scans that all share in data.scan_lengths_trs, or leave the subject out by data.subjects.",
        )
    return scan_timeline(shortest.n_trs, shortest.tr_s, scan_lengths_trs, shortest.path.name)


def _common_runs(volumes: Sequence[Volumes], stated: Sequence[int] | None) -> Timeline:
    first = volumes[0]
    lengths = tuple(stated) if stated else first.run_lengths_trs
    other = next((v for v in volumes if v.run_lengths_trs != lengths), None)
    if other is not None:
        whose = "data.scan_lengths_trs says" if stated else f"{first.path.name} has"
        raise DataError(
            f"The runs of {other.path.name} have {list(other.run_lengths_trs)} volumes; {whose} {list(lengths)}.",
            "Choose runs of equal length with data.bids.runs, or leave the subject out by data.subjects.",
        )
    return Timeline(first.tr_s, lengths)


def _common_voxels(
    volumes: Mapping[str, Volumes], brain_masks: Mapping[str, Sequence[Path]], progress: Progress
) -> NDArray[np.bool_]:
    """Return the voxels that are non-zero in every run of every subject and inside every brain mask."""
    progress("finding the voxels that all subjects have", 0.0)
    masks = [nonzero_voxels(run) for v in volumes.values() for run in (v, *v.later_runs)]
    masks += [read_mask(path, volumes[subject]) for subject, paths in brain_masks.items() for path in paths]
    common = np.logical_and.reduce(masks)
    if not common.any():
        raise DataError("No voxel is different from zero in every subject.", "Check that the files share one space.")
    return np.asarray(common)


def _write_bold_arrays(
    folder: Path, volumes: Mapping[str, Volumes], mask_XYZ: NDArray[np.bool_], n_trs: int, progress: Progress
) -> None:
    (folder / "bold").mkdir()
    (folder / "reference").mkdir()
    given_mask = folder / "given_mask.npy"
    used_V = np.load(given_mask) if given_mask.is_file() else None
    for n, (subject, subject_volumes) in enumerate(volumes.items()):
        progress(f"reading {subject}", BRAINS_SHARE * n / len(volumes))
        target = folder / "bold" / f"{subject}.npy"
        reference_V = write_bold_array(target, subject_volumes, mask_XYZ, n_trs, used_V)
        np.save(folder / "reference" / f"{subject}.npy", reference_V)


def _write_confounds(
    folder: Path, volumes: Mapping[str, Volumes], tables: Mapping[str, Sequence[Path]], patterns: Sequence[str]
) -> tuple[str, ...]:
    """Write every subject's confounds, runs one after another; return a note that names them."""
    if not tables:
        return ()
    (folder / "confounds").mkdir()
    for subject, paths in tables.items():
        values_TN = read_run_confounds(paths, patterns, volumes[subject].run_lengths_trs)
        np.save(folder / "confounds" / f"{subject}.npy", values_TN)
    return (f"Confounds {', '.join(patterns)} are regressed out, by weights from training TRs only.",)


def _brain_mask_notes(volumes: Mapping[str, Volumes], brain_masks: Mapping[str, Sequence[Path]]) -> list[str]:
    n_runs = sum(len(v.run_lengths_trs) for v in volumes.values())
    n_masks = sum(map(len, brain_masks.values()))
    if n_masks in (0, n_runs):
        return []
    return [f"{n_runs - n_masks} of {n_runs} runs have no brain mask; those of the others are used."]


def _measured_offset(
    folder: Path,
    subjects: Sequence[str],
    timeline: Timeline,
    segments: Sequence[Segment],
    sources: Sources,
    config: Config,
) -> float:
    """Return the offset that makes the lag haemodynamic, from the lag measured at offset 0."""
    stimulus = read_stimulus(sources, segments, timeline, config, lambda _sentence, _share: None)
    rows = slice(timeline.first_tr, timeline.first_tr + timeline.n_trs)
    bold = {s: np.load(folder / "bold" / f"{s}.npy", mmap_mode="r")[rows] for s in subjects}
    features = {"video": stimulus.video_TF, "audio": stimulus.audio_TF}
    return offset_from_lag(average_lag(features, bold, timeline.scan_lengths_trs, timeline.tr_s), timeline.tr_s)


def _offset_note(offset_s: float, tr_s: float) -> str:
    return (
        f"data.stimulus_offset_s: auto found {offset_s:g} s ({round(offset_s / tr_s)} TRs): the film is there when "
        "the first volume begins."
    )


def _write_stimulus(folder: Path, stimulus: Stimulus) -> None:
    np.save(folder / "frames.npy", stimulus.frames_TKHWC)
    np.save(folder / "video.npy", stimulus.video_TF)
    np.save(folder / "audio.npy", stimulus.audio_TF)
    np.save(folder / "text.npy", stimulus.text_TF)


def _write_mask(folder: Path, mask_file: Path | None, like: Volumes, mask_XYZ: NDArray[np.bool_]) -> None:
    np.save(folder / "mask.npy", mask_XYZ)
    if mask_file is None:
        return
    given_V = read_mask(mask_file, like)[mask_XYZ]
    if not given_V.any():
        raise DataError(f"{mask_file} shares no voxel with the brains.", "Check that it is in their space.")
    np.save(folder / "given_mask.npy", given_V)


def _write_parcels(folder: Path, atlas: Path | None, like: Volumes, mask_XYZ: NDArray[np.bool_]) -> Mapping[int, str]:
    """Write each voxel's parcel; return the names of the parcels that contain a voxel."""
    if atlas is None:
        return {}
    parcel_V = read_parcels(atlas, like)[mask_XYZ]
    if not parcel_V.any():
        raise DataError(f"No voxel of the brains is in a parcel of {atlas}.", "Check that it is in their space.")
    np.save(folder / "parcels.npy", parcel_V)
    return parcel_names(atlas, np.unique(parcel_V[parcel_V > 0]).tolist())


def _check_space(folder: Path, volumes: Mapping[str, Volumes], mask_XYZ: NDArray[np.bool_], n_trs: int) -> None:
    needed = len(volumes) * n_trs * int(mask_XYZ.sum()) * 2 + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise PreflightRefused(
            f"The store needs {needed / 2**30:.1f} GiB, {folder.parent} has {free / 2**30:.1f} GiB free.",
            "Free some space or choose another workdir.",
        )


def _subrange(progress: Progress, start: float, end: float) -> Progress:
    return lambda sentence, share: progress(sentence, start + (end - start) * share)
