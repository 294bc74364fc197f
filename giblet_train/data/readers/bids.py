"""Find the runs of fMRIPrep's derivatives, and of programs that follow it, by their entities.

`sub-XX[/ses-YY]/func/sub-XX[_ses-YY]_task-T[_run-N]_space-S[_res-R]_desc-preproc_bold.nii.gz`, with a brain mask
(`_desc-brain_mask`) and confounds (`_desc-confounds_timeseries.tsv`, without space) next to each. CIFTI
(`_space-fsLR_den-91k_bold.dtseries.nii`) and pairs of GIFTI (`_hemi-L_space-fsaverage5_bold.func.gii`) have no `desc`;
parcels are `_timeseries.ptseries.nii` or `_timeseries.tsv`. Labels are text; sessions and runs that are numbers are in
numerical order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from giblet_train.schema.config import BidsConfig, nearest
from giblet_train.schema.errors import DataError

PREPROCESSED = "preproc"
BOLD = f"_desc-{PREPROCESSED}_bold.nii"
FOLDERS = ("sub-*/func", "sub-*/ses-*/func")
CONFOUNDS = ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
REMEDY = (
    "Correct data.bids or data.data_dir. Files without space or desc: layout: lab, with data.bold: "
    "sub-{subject}/func/sub-{subject}_task-film_bold.nii.gz."
)
ENTITIES = (
    *("acq", "ce", "rec", "dir", "echo", "part", "hemi", "space", "res", "den", "cohort", "atlas", "seg", "stat"),
    *("desc", "run", "ses", "task"),
)
FILTERS = (*ENTITIES, "suffix", "extension")
OF_SPACE = ("hemi", "space", "res", "den", "cohort", "atlas", "seg", "stat", "desc")
"""Entities that the names of confounds do not have."""
VOLUMES = (".nii", ".nii.gz")
EXTENSIONS = {"bold": (*VOLUMES, ".dtseries.nii", ".func.gii"), "timeseries": (".ptseries.nii", ".tsv")}
"""Suffix -> endings of series."""

T = TypeVar("T")
Order = tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class BidsRun:
    """One run of one subject."""

    subject: str
    """Label without `sub-`."""
    session: str
    task: str
    run: str
    bold: Path
    mask: Path | None
    """Brain mask, None if fMRIPrep wrote none."""
    confounds: Path | None
    """Table of confounds, None if fMRIPrep wrote none."""

    @property
    def order(self) -> Order:
        """Return the key by which runs are in order: session, task, run."""
        return tuple(natural(part) for part in (self.session, self.task, self.run))


def bids_runs(
    folder: Path, config: BidsConfig, subjects: Sequence[int | str] | None = None
) -> dict[str, tuple[BidsRun, ...]]:
    """Return subject's label -> its runs of the configured tasks, space and filters, in order.

    Raises DataError if there are none, if two files are the same run, and if subjects have different runs. Subjects
    that are not requested are not looked at.

    Args:
        subjects: Requested labels or numbers; None for all.
    """
    files = _bold_files(folder, config)
    tasks = config.tasks
    of_task = [path for path in files if entities(path).get("task") in tasks]
    if not of_task:
        file_tasks = sorted({entities(path).get("task", "") for path in files})
        task_clause = f" of task {', '.join(tasks)}{nearest(tasks[0], file_tasks)}" if files and tasks else ""
        suffix = _suffix(config)
        ending = f"_desc-{_desc(config)}_bold.nii.gz" if suffix == "bold" else f"_{suffix}{EXTENSIONS[suffix][0]}"
        raise DataError(f"{folder} has no file sub-*/func/*{ending}{task_clause}.", REMEDY)
    runs: dict[str, list[BidsRun]] = {}
    matching = [path for path in of_task if _matches(path, config)]
    for path in matching:
        runs.setdefault(entities(path)["sub"], []).append(_run(path))
    if not runs:
        raise DataError(_nothing_matches(of_task, config), REMEDY)
    runs = select_subjects(runs, subjects, f"{folder}/sub-*/func")
    _check_unique(runs)
    _check_same_runs(runs, config.runs)
    return {subject: tuple(sorted(runs[subject], key=lambda r: r.order)) for subject in sorted(runs, key=natural)}


def select_subjects(files: Mapping[str, T], subjects: Sequence[int | str] | None, where: str) -> dict[str, T]:
    """Return the requested subjects, in their natural order; a number matches `01` as well as `1`. Raises DataError."""
    if subjects is None:
        return {label: files[label] for label in sorted(files, key=natural)}
    missing = [item for item in subjects if not any(is_subject(label, item) for label in files)]
    if missing:
        raise DataError(
            f"data.subjects asks for {', '.join(map(str, missing))}, but {where} exists only for "
            f"{', '.join(sorted(files, key=natural)) or 'nobody'}.",
            "Correct data.subjects or data.bold.",
        )
    labels = [label for label in files if any(is_subject(label, item) for item in subjects)]
    return {label: files[label] for label in sorted(labels, key=natural)}


def is_subject(label: str, subject: int | str) -> bool:
    """Return True if a label, without `sub-`, is the requested one; numbers ignore leading zeros."""
    if label == str(subject).removeprefix("sub-"):
        return True
    return label.isdigit() and isinstance(subject, int) and int(label) == subject


def natural(text: str) -> tuple[int, int, str]:
    """Return a key that sorts 2 before 10, and numbers before other text."""
    return (0, int(text), "") if text.isdigit() else (1, 0, text)


def events_files(folder: Path, pattern: str, runs: Sequence[BidsRun]) -> tuple[Path, ...]:
    """Return the annotation file of each run; `{run}`, `{task}` and `{session}` in its name are replaced."""
    return tuple(
        folder / pattern.replace("{run}", r.run).replace("{task}", r.task).replace("{session}", r.session) for r in runs
    )


def entities(path: Path) -> dict[str, str]:
    """Return the entities of a name: `sub-01_task-film_bold.nii.gz` gives sub, task, suffix and extension."""
    *parts, last = path.name.split("_")
    suffix, _, extension = last.partition(".")
    pairs = (part.partition("-") for part in parts if "-" in part)
    return {key: value for key, _, value in pairs} | {"suffix": suffix, "extension": f".{extension}"}


def companions(bold: Path) -> tuple[Path | None, Path | None]:
    """Return the brain mask and the table of confounds that fMRIPrep writes next to a run, None for what is missing."""
    values = entities(bold)
    parts = [part for part in bold.name.split("_")[:-1] if part.partition("-")[0] not in OF_SPACE]
    tables = [bold.with_name("_".join(parts) + ending) for ending in CONFOUNDS]
    mask = bold.with_name(re.sub(r"(_desc-[^_]+)?_bold\.", "_desc-brain_mask.", bold.name))
    has_mask = values["extension"] in VOLUMES and values["suffix"] == "bold" and mask.is_file()
    return mask if has_mask else None, next((table for table in tables if table.is_file()), None)


def _bold_files(folder: Path, config: BidsConfig) -> list[Path]:
    """Return the series of a suffix; a pair of hemispheres is its left file."""
    unknown = [name for name in config.filters if name not in FILTERS]
    if unknown:
        raise DataError(
            f"data.bids.filters has the unknown entity {unknown[0]!r}{nearest(unknown[0], list(FILTERS)) or '.'}",
            f"Entities are {', '.join(FILTERS)}.",
        )
    suffix = _suffix(config)
    if suffix not in EXTENSIONS:
        raise DataError(f"data.bids.filters: suffix {suffix!r} is unknown.", f"It is {' or '.join(EXTENSIONS)}.")
    paths = [path for pattern in FOLDERS for path in sorted(folder.glob(f"{pattern}/sub-*_{suffix}.*"))]
    return [path for path in paths if _is_series(entities(path), config)]


def _is_series(values: Mapping[str, str], config: BidsConfig) -> bool:
    desc, suffix = values.get("desc"), values["suffix"]
    if values["extension"] not in EXTENSIONS[suffix] or values.get("hemi", "L") != "L":
        return False
    if "desc" in config.filters or values["extension"] in VOLUMES:
        return desc == _desc(config)
    return desc != "confounds"


def _suffix(config: BidsConfig) -> str:
    return str(config.filters.get("suffix", "bold"))


def _desc(config: BidsConfig) -> str | None:
    desc = config.filters.get("desc", PREPROCESSED)
    return None if desc is None else str(desc)


def _run(path: Path) -> BidsRun:
    values = entities(path)
    mask, confounds = companions(path)
    return BidsRun(
        subject=values["sub"],
        session=values.get("ses", ""),
        task=values.get("task", ""),
        run=values.get("run", ""),
        bold=path,
        mask=mask,
        confounds=confounds,
    )


def _matches(path: Path, config: BidsConfig) -> bool:
    """Return True for the configured space, runs and filters. A filter of null asks for files without the entity."""
    values = entities(path)
    number = values.get("run", "")
    if values.get("space") != config.filters.get("space", config.space):
        return False
    if config.runs is not None and not (number.isdigit() and int(number) in config.runs):
        return False
    return all(_equal(values.get(name), value) for name, value in config.filters.items() if name != "desc")


def _equal(value: str | None, entity: str | int | None) -> bool:
    if value is None or entity is None:
        return value is None and entity is None
    return value == str(entity) or (value.isdigit() and str(entity).isdigit() and int(value) == int(entity))


def _nothing_matches(paths: Sequence[Path], config: BidsConfig) -> str:
    spaces = sorted({entities(path).get("space", "none") for path in paths})
    numbers = f" and runs {', '.join(map(str, config.runs))}" if config.runs else ""
    filters = "".join(f" and {name} {value}" for name, value in config.filters.items())
    return f"No run has space {config.space}{numbers}{filters}; there is {', '.join(spaces)}."


def _check_unique(runs: Mapping[str, Sequence[BidsRun]]) -> None:
    for subject, entries in runs.items():
        orders = [entry.order for entry in entries]
        twice = [entry for entry in entries if orders.count(entry.order) > 1]
        if not twice:
            continue
        values = [entities(entry.bold) for entry in twice]
        differing = [name for name in FILTERS if len({v.get(name) for v in values}) > 1]
        names = ", ".join(sorted(entry.bold.name for entry in twice))
        choice = f"filters: {{{differing[0]}: {values[0].get(differing[0]) or 'null'}}}" if differing else ""
        raise DataError(
            f"sub-{subject} has two files of the same run: {names}.",
            f"Choose one with data.bids.{choice}." if choice else "Keep one of them under data.data_dir.",
        )


def _check_same_runs(runs: Mapping[str, Sequence[BidsRun]], run_numbers: Sequence[int] | None) -> None:
    first: tuple[str, list[Order]] | None = None
    for subject in sorted(runs, key=natural):
        orders = sorted(entry.order for entry in runs[subject])
        first = first or (subject, orders)
        numbers = {entry.run for entry in runs[subject] if entry.run}
        missing = [n for n in run_numbers or () if n not in {int(number) for number in numbers if number.isdigit()}]
        if orders != first[1] or missing:
            raise DataError(
                f"sub-{subject} has {_described(runs[subject])}, sub-{first[0]} has {_described(runs[first[0]])}"
                f"{f'; data.bids.runs asks for {missing}' if missing else ''}.",
                "Choose runs that all have with data.bids.runs, leave the subject out by data.subjects, or write a "
                "table of runs (data.runs), in which subjects may differ.",
            )


def _described(runs: Sequence[BidsRun]) -> str:
    sorted_runs = sorted(runs, key=lambda r: r.order)
    several = len({r.task for r in runs}) > 1
    return ", ".join(
        f"{f'session {r.session} ' if r.session else ''}{f'task {r.task} ' if several else ''}run {r.run or '-'}"
        for r in sorted_runs
    )
