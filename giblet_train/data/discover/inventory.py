"""Sort the files of a folder into scans, films, sounds, annotations and timings."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from giblet_train.data.discover.names import ScanName, chosen_versions, scan_names
from giblet_train.data.readers.array_file import HDF5, dataset_names
from giblet_train.data.readers.series_path import SEPARATOR
from giblet_train.data.stimulus.video import film_seconds, has_pictures
from giblet_train.schema.errors import DataError

FILMS = (".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".flv", ".ogv")
SOUNDS = (".wav", ".mp3", ".flac", ".m4a", ".ogg", ".aac", ".opus", ".aif", ".aiff")
TEXTS = (".xlsx", ".csv", ".srt", ".vtt", ".tsv")
SCANS = (".nii", ".nii.gz", ".func.gii", ".npy", *HDF5)
NO_SERIES = ("_mask", "_boldref", "_sbref", "_dseg", "_probseg", "_t1w", "_t2w", "_epi", "_magnitude", "_phasediff")
"""Ends of names of images that are no time series."""
OTHER_TABLES = ("confounds", "participants", "_scans", "_sessions", "regressors", "physio", "motion", "runs.tsv")
RIGHT_HALF = re.compile(r"hemi-r[_.].*\.gii$|[._-]r\..*gii$|(^|[._-])rh[._-].*gii$")
"""Names of right hemispheres, which are read with the left ones."""
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


def take_inventory(folder: Path) -> Inventory:
    """Sort the files under a folder. Files that are unreadable become problems, not errors."""
    files = sorted(_files(folder))
    media: list[Medium] = []
    problems: list[DataError] = []
    damaged_files: list[Path] = []
    series: list[Path] = []
    for path in filter(_may_be_scan, files):
        try:
            series += _series_in(path)
        except DataError as error:
            damaged_files.append(path)
            problems.append(error)
    scans, others = chosen_versions(scan_names(series, folder))
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
        elif path.suffix.lower() in TEXTS and not any(part in path.name for part in OTHER_TABLES):
            texts.append(path)
    return Inventory(
        tuple(scans), tuple(others), tuple(media), tuple(texts), tuple(timings), tuple(damaged_files), tuple(problems)
    )


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files in the folder, without hidden ones and without those too deep."""
    for current, folders, names in os.walk(folder, followlinks=False):
        depth = len(Path(current).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and depth < DEEPEST)
        yield from (Path(current) / name for name in names if not name.startswith("."))


def _may_be_scan(path: Path) -> bool:
    name = path.name.lower()
    if not name.endswith(SCANS) or RIGHT_HALF.search(name):
        return False
    stem = name.removesuffix(".gz").rpartition(".")[0]
    return (
        not stem.endswith(NO_SERIES) and "atlas.nii" not in name and "_anat" not in name and "/anat/" not in str(path)
    )


def _series_in(path: Path) -> list[Path]:
    """Return the series of a file: each dataset of an HDF5 file, one of other files. Raises DataError."""
    if path.suffix.lower() not in HDF5:
        return [path]
    datasets = dataset_names(path)
    return [Path(f"{path}{SEPARATOR}{name}") for name in datasets] if len(datasets) > 1 else [path]


def _timings(path: Path) -> list[Timing]:
    """Return the presentations that an events file lists: rows with a file, or one row for the whole stimulus."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        timings = [
            Timing(path, float(row["onset"]), _seconds(row.get("duration")), _stimulus(row))
            for row in rows
            if row.get("onset") not in (None, "", "n/a")
        ]
    except (OSError, ValueError, KeyError, csv.Error):
        return []
    timings_of_stimuli = [timing for timing in timings if timing.stimulus]
    return timings_of_stimuli or (timings if len(timings) == 1 else [])


def _stimulus(row: dict[str, str]) -> str:
    value = (row.get("stim_file") or row.get("stimulus") or "").strip()
    return "" if value == "n/a" else value


def _seconds(text: str | None) -> float | None:
    return None if text in (None, "", "n/a") else float(text)
