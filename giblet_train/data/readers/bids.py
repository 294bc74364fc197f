"""Find the runs in fMRIPrep's derivatives.

`sub-XX[/ses-YY]/func/sub-XX[_ses-YY]_task-T[_run-N]_space-S[_res-R]_desc-preproc_bold.nii.gz`, with a brain mask
(`_desc-brain_mask`) and confounds (`_desc-confounds_timeseries.tsv`, without space) next to each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from giblet_train.schema.config import BidsConfig, nearest
from giblet_train.schema.errors import DataError

BOLD = "_desc-preproc_bold.nii"
FOLDERS = ("sub-*/func", "sub-*/ses-*/func")
CONFOUNDS = ("_desc-confounds_timeseries.tsv", "_desc-confounds_regressors.tsv")
REMEDY = "Correct data.bids or data.data_dir."


@dataclass(frozen=True)
class BidsRun:
    """One run of one subject."""

    subject: int
    session: str
    run: str
    bold: Path
    mask: Path | None
    """Brain mask, None if fMRIPrep wrote none."""
    confounds: Path | None
    """Table of confounds, None if fMRIPrep wrote none."""


def bids_runs(folder: Path, config: BidsConfig) -> dict[int, tuple[BidsRun, ...]]:
    """Subject's number -> its runs of the configured task and space, by session and run number.

    Raises DataError where there is none, where two files are the same run, where subjects have other runs than most,
    and for a subject whose label is no number.
    """
    files = [path for pattern in FOLDERS for path in sorted(folder.glob(f"{pattern}/*{BOLD}*"))]
    here = [path for path in files if _entities(path).get("task") == config.task]
    if not here:
        tasks = sorted({_entities(path).get("task", "") for path in files})
        known = f" of task {config.task}{nearest(str(config.task), tasks)}" if files else ""
        raise DataError(f"{folder} has no file sub-*/func/*{BOLD}.gz{known}.", REMEDY)
    found: dict[int, list[BidsRun]] = {}
    for path in here:
        if _entities(path).get("space") == config.space and _wanted(path, config.runs):
            run = _run(path)
            found.setdefault(run.subject, []).append(run)
    if not found:
        spaces = sorted({_entities(path).get("space", "none") for path in here})
        numbers = f" and runs {', '.join(map(str, config.runs))}" if config.runs else ""
        raise DataError(f"No run has space {config.space}{numbers}; there is {', '.join(spaces)}.", REMEDY)
    _check_same_runs(found, config.runs)
    return {subject: tuple(sorted(found[subject], key=_order)) for subject in sorted(found)}


def events_files(folder: Path, pattern: str, runs: Sequence[BidsRun]) -> tuple[Path, ...]:
    """The annotation file of each run, `{run}` in its name being the run's own text."""
    return tuple(folder / pattern.replace("{run}", run.run) for run in runs)


def _run(path: Path) -> BidsRun:
    entities = _entities(path)
    if not entities["sub"].isdigit():
        raise DataError(
            f"{path.name}: subject {entities['sub']!r} is no number; giblet names subjects by their numbers.",
            "Rename the subject, or link its files under a number.",
        )
    before_space = path.name.partition("_space-")[0]
    confounds = [path.with_name(before_space + ending) for ending in CONFOUNDS]
    mask = path.with_name(path.name.replace("_desc-preproc_bold.", "_desc-brain_mask."))
    return BidsRun(
        subject=int(entities["sub"]),
        session=entities.get("ses", ""),
        run=entities.get("run", ""),
        bold=path,
        mask=mask if mask.is_file() else None,
        confounds=next((p for p in confounds if p.is_file()), None),
    )


def _entities(path: Path) -> dict[str, str]:
    """`sub-01_task-film` as {"sub": "01", "task": "film"}."""
    pairs = (part.partition("-") for part in path.name.split("_") if "-" in part)
    return {key: value for key, _, value in pairs}


def _wanted(path: Path, runs: Sequence[int] | None) -> bool:
    number = _entities(path).get("run", "")
    return runs is None or (number.isdigit() and int(number) in runs)


def _order(run: BidsRun) -> tuple[str, int]:
    return run.session, int(run.run or 0)


def _check_same_runs(found: dict[int, list[BidsRun]], wanted: Sequence[int] | None) -> None:
    model: tuple[int, list[tuple[str, int]]] | None = None
    for subject, runs in sorted(found.items()):
        order = sorted(map(_order, runs))
        if len(set(order)) < len(order):
            names = ", ".join(sorted(run.bold.name for run in runs))
            raise DataError(
                f"sub-{subject:02d} has two files of the same run: {names}.", "Keep one of them under data.data_dir."
            )
        model = model or (subject, order)
        numbers = {number for _, number in order}
        lacking = [] if wanted is None else [n for n in wanted if n not in numbers]
        if order != model[1] or lacking:
            raise DataError(
                f"sub-{subject:02d} has {_listed(order)}, sub-{model[0]:02d} has {_listed(model[1])}"
                f"{f'; data.bids.runs asks for {lacking}' if lacking else ''}.",
                "Choose runs that all have with data.bids.runs, or leave the subject out by data.subjects.",
            )


def _listed(order: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{f'session {session} ' if session else ''}run {number or '-'}" for session, number in order)
