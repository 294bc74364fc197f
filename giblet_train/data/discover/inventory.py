"""Sort the files of a folder into scans, films, sounds, annotations and timings."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel

from giblet_train.data.discover.names import SUBJECT, ScanName, chosen_versions, entities_of_run, scan_names, tokens
from giblet_train.data.readers.annotation_cells import has_spoken_words
from giblet_train.data.readers.array_file import HDF5, dataset_names
from giblet_train.data.readers.delimiter import find_delimiter, is_number
from giblet_train.data.readers.image_files import UNREADABLE
from giblet_train.data.readers.series_path import SEPARATOR
from giblet_train.data.stimulus.video import film_seconds, has_pictures
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import read_regular

FILMS = (
    *(".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".flv", ".ogv", ".vob"),
    *(".mts", ".m2ts", ".3gp", ".f4v"),
)
SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg", ".aac", ".opus", ".aif", ".aiff")
TEXTS = (".xlsx", ".csv", ".srt", ".vtt", ".tsv", ".textgrid", ".eaf")
IMAGES = (".nii", ".nii.gz", ".img", ".img.gz")
SCANS = (*IMAGES, ".func.gii", ".npy", *HDF5)
OTHER_FORMATS = {
    ".head": ("AFNI", "Convert it: 3dAFNItoNIFTI -prefix {stem}.nii.gz {name}"),
    ".mat": ("MATLAB", "Save its matrix with one row per volume as .npy, .h5 or .tsv, named after subject and run."),
    ".mgz": ("FreeSurfer", "Convert it: mri_convert {name} {stem}.nii.gz"),
    ".mgh": ("FreeSurfer", "Convert it: mri_convert {name} {stem}.nii.gz"),
    ".dcm": ("DICOM", "Convert the folder: dcm2niix -z y FOLDER"),
    ".ima": ("DICOM", "Convert the folder: dcm2niix -z y FOLDER"),
    ".rec": ("Philips PAR/REC", "Convert the folder: dcm2niix -z y FOLDER"),
    ".mnc": ("MINC", "Convert it: mnc2nii {name} {stem}.nii"),
}
"""Ending -> format of scans that is not read, and how to convert it."""
NO_SERIES = (
    *("_mask", "_boldref", "_sbref", "_dseg", "_probseg", "_t1w", "_t2w", "_epi", "_magnitude", "_phasediff", "_dwi"),
    *("_dscalar", "_dlabel", "_part-phase_bold", "_part-imag_bold", "_part-real_bold"),
)
"""Ends of names of images that are no time series, or not that of a magnitude."""
MANY_VOLUMES = 20
"""Images with one volume that are more than anatomical ones: volumes of runs."""
ARRAYS = (".npy", *HDF5)
TABLES = (".tsv", ".csv")
PARCELS = re.compile(r"_(?:seg|atlas)-[^_]+_(?:.*_)?timeseries\.tsv$")
"""Names of tables of parcels."""
FEWEST_PARCELS = 4
FIRST_BYTES = 1024 * 1024
FOLDERS_OF_FEATURES = frozenset(["stimuli", "stimulus", "stim", "features", "embeddings", "annotations", "annotation"])
"""Folders whose arrays describe stimuli."""
FILM_ROW = frozenset(["film", "movie", "story", "video", "clip"])
"""Words for a film in the type of an event."""
OTHER_FOLDERS = frozenset(["anat", "dwi", "fmap", "perf", "figures"])
OTHER_TABLES = frozenset(["confounds", "participants", "regressors", "physio", "motion", "outliers", "phenotype"])
OTHER_ENDS = ("_scans.tsv", "_sessions.tsv", "runs.tsv", "_channels.tsv", "_electrodes.tsv")
RIGHT_HALF = re.compile(r"hemi-r[_.].*\.gii$|[._-]r\..*gii$|(^|[._-])rh[._-].*gii$")
"""Names of right hemispheres, which are read with the left ones."""
MOST_JSON_BYTES = 32 * 1024 * 1024
DEEPEST = 8
"""Levels of folders that are searched."""


@dataclass(frozen=True)
class Medium:
    """A film or a sound."""

    path: Path
    seconds: float
    has_pictures: bool


@dataclass(frozen=True)
class Timing:
    """When which stimulus is shown, as an events file says."""

    path: Path
    onset_s: float
    duration_s: float | None
    stimulus: str
    """Name of its file; empty if the table does not say."""


@dataclass(frozen=True)
class Inventory:
    """Files of a folder by their kind."""

    scans: tuple[ScanName, ...]
    other_versions: tuple[ScanName, ...]
    """Scans of other spaces or preprocessing, which are not used."""
    media: tuple[Medium, ...]
    texts: tuple[Path, ...]
    """Tables and subtitles that may be annotations."""
    timings: tuple[Timing, ...]
    broken: tuple[Path, ...]
    """Films and sounds that cannot be read."""
    problems: tuple[DataError, ...]
    """One for each of them."""
    no_series: tuple[Path, ...] = ()
    """Images with a single volume."""
    unread: tuple[Path, ...] = ()
    """Files in formats of scans that are not read."""


def take_inventory(folder: Path) -> Inventory:
    """Sort the files under a folder. Files that are unreadable become problems, not errors."""
    files = sorted(_files(folder))
    media: list[Medium] = []
    problems: list[DataError] = []
    damaged_files: list[Path] = []
    series: list[Path] = []
    single_volumes: list[Path] = []
    for path in files:
        if not _may_be_scan(path, folder):
            continue
        try:
            parts = _series_in(path)
        except DataError as error:
            damaged_files.append(path)
            problems.append(error)
            continue
        series += parts
        single_volumes += [] if parts else [path]
    if not series:
        series = [path for path in files if path.suffix.lower() in TABLES and _is_numeric(path)]
    scans, others = chosen_versions(scan_names(series, folder))
    scan_paths = set(series)
    timings: list[Timing] = []
    texts: list[Path] = []
    for path in files:
        if path.suffix.lower() in (*FILMS, *SOUNDS):
            try:
                media.append(Medium(path, film_seconds(path), has_pictures(path)))
            except DataError as error:
                damaged_files.append(path)
                problems.append(DataError(error.message, "Copy it again, or remove it from the folder."))
        elif path.name.endswith("_events.tsv") and (rows := _timings(path)):
            timings += rows
        elif path not in scan_paths and _may_be_text(path):
            texts.append(path)
    return Inventory(
        scans=tuple(scans),
        other_versions=tuple(others),
        media=tuple(media),
        texts=tuple(texts),
        timings=tuple(timings),
        broken=tuple(damaged_files),
        problems=tuple(problems),
        no_series=tuple(single_volumes),
        unread=tuple(path for path in files if path.suffix.lower() in OTHER_FORMATS),
    )


def explain_absence(inventory: Inventory, folder: Path) -> DataError:
    """Return the error for a folder without a scan: it names what the folder has instead."""
    if inventory.unread and len(inventory.no_series) < MANY_VOLUMES:
        path = _typical(inventory.unread)
        name, remedy = OTHER_FORMATS[path.suffix.lower()]
        stem = path.name[: -len(path.suffix)]
        return DataError(
            f"{path} is in the format of {name}, which giblet does not read; {folder} has no other scan.",
            remedy.format(name=path.name, stem=stem.partition("+")[0]),
        )
    if inventory.no_series:
        return DataError(
            f"{folder} has no 4-D image: each of its {len(inventory.no_series)} images, such as "
            f"{inventory.no_series[0].relative_to(folder)}, is a single volume.",
            "Join the volumes of each run in one file: fslmerge -tr run.nii.gz VOLUMES TR",
        )
    if inventory.problems:
        return DataError(f"{folder} has no scan. {inventory.problems[0].message}", inventory.problems[0].remedy)
    return DataError(
        f"{folder} has no scan: no 4-D image, CIFTI file, GIFTI pair or table of parcels.",
        "Give the folder that has the scans and the films.",
    )


def _typical(paths: Sequence[Path]) -> Path:
    """Return the first file of the ending that most have."""
    ending = Counter(path.suffix.lower() for path in paths).most_common(1)[0][0]
    return next(path for path in paths if path.suffix.lower() == ending)


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder and in what it links to, without hidden ones and without those too deep.

    Pipes, sockets and devices are no files. A link without content is one, so that it is reported.
    """
    known_folders = {_identity(parent) for parent in (folder, *folder.resolve().parents)}
    for current, folders, names in os.walk(folder, followlinks=True):
        depth = len(Path(current).relative_to(folder).parts)
        subfolders = [f for f in sorted(folders) if not f.startswith(".") and depth < DEEPEST]
        folders[:] = []
        for name in subfolders:
            identity = _identity(Path(current) / name)
            if identity is not None and identity not in known_folders:
                known_folders.add(identity)
                folders.append(name)
        yield from (path for name in names if not name.startswith(".") and _is_file(path := Path(current) / name))


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return device and inode of a folder; None if it cannot be looked at."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return path.is_symlink()


def _may_be_scan(path: Path, folder: Path) -> bool:
    name = path.name.lower()
    if PARCELS.search(name):
        return True
    if not name.endswith(SCANS) or RIGHT_HALF.search(name) or OTHER_FOLDERS & set(path.relative_to(folder).parts):
        return False
    if name.endswith(ARRAYS) and FOLDERS_OF_FEATURES & {part.lower() for part in path.relative_to(folder).parts}:
        return False
    stem = name.removesuffix(".gz").rpartition(".")[0].replace(".", "_")
    return not stem.endswith(NO_SERIES) and "atlas.nii" not in name and "_anat" not in name


def _is_numeric(path: Path) -> bool:
    """Return True for a table of a subject with a header of names above many columns of numbers: series of parcels."""
    if not any(SUBJECT.fullmatch(word) for word in re.split(r"[_. ]+", path.stem)):
        return False
    try:
        lines = read_regular(path)[:FIRST_BYTES].decode("utf-8-sig").splitlines()[:5]
    except (OSError, UnicodeDecodeError):
        return False
    delimiter = "\t" if path.suffix.lower() == ".tsv" else find_delimiter(lines)
    header, *rows = [line.split(delimiter) for line in lines] or [[]]
    are_numbers = [all(map(is_number, row)) and len(row) == len(header) for row in rows[:-1]]
    return len(header) >= FEWEST_PARCELS and not any(map(is_number, header)) and any(are_numbers) and all(are_numbers)


def _may_be_text(path: Path) -> bool:
    kind = path.suffix.lower()
    if kind == ".json":
        return path.exists() and path.stat().st_size <= MOST_JSON_BYTES and has_spoken_words(path)
    if kind not in TEXTS or path.name.endswith(OTHER_ENDS) or OTHER_TABLES & set(tokens(path.stem)):
        return False
    # A table of one subject describes what that person did, or when what was shown.
    return "sub" not in entities_of_run(path)


def _series_in(path: Path) -> list[Path]:
    """Return the series of a file: each dataset of an HDF5 file, one of other files, none of an image of one volume.

    Raises DataError for an HDF5 file that cannot be read. Whether an image can be read is found later.
    """
    if path.suffix.lower() in HDF5:
        datasets = dataset_names(path)
        return [Path(f"{path}{SEPARATOR}{name}") for name in datasets] if len(datasets) > 1 else [path]
    return [] if path.name.lower().endswith(IMAGES) and _n_volumes(path) == 1 else [path]


def _n_volumes(path: Path) -> int:
    """Return the volumes that a header states; 0 if it cannot be read."""
    try:
        shape = nibabel.load(path).shape
    except UNREADABLE:
        return 0
    return int(shape[0]) if len(shape) == 2 else int(shape[3]) if len(shape) > 3 else 1


def _timings(path: Path) -> list[Timing]:
    """Return the presentations that an events file lists: rows with a file, or one row for the whole stimulus.

    Such is the only row, or the only one whose type is a word for a film, between fixation and rest.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        timings = [
            Timing(path, float(row["onset"]), _seconds(row.get("duration")), _stimulus(row))
            for row in _with_onset(rows)
        ]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
    timings_of_stimuli = [timing for timing in timings if timing.stimulus]
    if timings_of_stimuli or len(timings) == 1:
        return timings_of_stimuli or timings
    films = [t for t, row in zip(timings, _with_onset(rows), strict=True) if FILM_ROW & set(tokens(_kind(row)))]
    return films if len(films) == 1 else []


def _with_onset(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return [row for row in rows if row.get("onset") not in (None, "", "n/a")]


def _kind(row: Mapping[str, str]) -> str:
    return row.get("trial_type") or row.get("condition") or row.get("event_type") or ""


def _stimulus(row: dict[str, str]) -> str:
    value = (row.get("stim_file") or row.get("stimulus") or "").strip()
    return "" if value == "n/a" else value


def _seconds(text: str | None) -> float | None:
    return None if text in (None, "", "n/a") else float(text)
