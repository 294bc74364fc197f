"""Read the table of runs: which scan of whom shows which stimulus from when to when.

A tab-separated file with one row per presentation: `subject`, `bold`, and optionally `session`, `task`, `run`,
`stimulus`, `scan_onset_s`, `stimulus_start_s`, `duration_s`, `brain_mask`, `confounds`. Without the last two, the files
that fMRIPrep writes next to a scan are used. An empty cell, `.` or `n/a` is a missing value. Rows
with the same `bold` describe several presentations within one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path

from giblet_train.data.readers.bids import companions
from giblet_train.data.readers.delimiter import find_delimiter, split_line
from giblet_train.data.readers.series_path import missing_file, split_dataset
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import read_regular

NEEDED = ("subject", "bold")
COLUMNS = (
    *("subject", "session", "task", "run", "bold", "stimulus"),
    *("scan_onset_s", "stimulus_start_s", "duration_s"),
)
FILES = ("brain_mask", "confounds")
"""Columns of files that a run may have besides its scan."""
MISSING = ("", ".", "n/a")


@dataclass(frozen=True)
class Presentation:
    """A stretch of a stimulus shown during a run."""

    stimulus: str
    onset_s: float
    """Second of the scan at which the stimulus is at start_s; negative if the stimulus began before the scan."""
    start_s: float = 0.0
    """Second of the stimulus shown at onset_s."""
    duration_s: float | None = None
    """Length of the stretch; None up to the end of stimulus or scan, or the next presentation."""
    row: int = 0
    """Line of the table."""


@dataclass(frozen=True)
class RunEntry:
    """One continuous scan of one subject."""

    subject: str
    """Label with prefix, such as `sub-01`."""
    bold: Path
    session: str = ""
    task: str = ""
    run: str = ""
    presentations: tuple[Presentation, ...] = ()
    """In order of onset; empty for a run without a stimulus."""
    brain_mask: Path | None = None
    """Voxels inside the brain; None if there is no file."""
    confounds: Path | None = None
    """Table of confounds; None if there is no file."""
    row: int = 0
    """First line of the run in the table."""

    @property
    def name(self) -> str:
        """Return the run's name for messages, such as `sub-01 task-film run-2`."""
        parts = (("ses", self.session), ("task", self.task), ("run", self.run))
        return " ".join([self.subject, *(f"{key}-{value}" for key, value in parts if value)])


def read_runs_table(path: Path, folder: Path, stimuli: Sequence[str], text: str | None = None) -> tuple[RunEntry, ...]:
    """Read the runs of a table, in its order.

    Raises DataError with the row for a missing column, an unknown stimulus, a time that is not a number, a file of two
    subjects, duplicate rows, and presentations that begin at the same time. All missing files are named at once.

    Args:
        folder: Base of the paths in the table.
        stimuli: Names that the configuration defines.
        text: The table itself; None to read it from `path`, which otherwise only names it in messages.
    """
    rows = _read_cells(path, _text_of(path) if text is None else text)
    runs: dict[str, RunEntry] = {}
    rows_before: dict[tuple[str, ...], int] = {}
    for number, cells in rows:
        content = tuple(cells[column] for column in COLUMNS)
        if content in rows_before:
            raise DataError(f"{path}, row {number} repeats row {rows_before[content]}.", "Delete one of them.")
        rows_before[content] = number
        entry = _entry(path, number, cells, folder, stimuli)
        first = runs.setdefault(cells["bold"], entry)
        if first is entry:
            continue
        if first.subject != entry.subject:
            raise DataError(
                f"{path}, row {number}: {cells['bold']} is already a run of {first.subject}, in row {first.row}.",
                "Give each run its own file.",
            )
        presentations = tuple(sorted((*first.presentations, *entry.presentations), key=lambda p: p.onset_s))
        runs[cells["bold"]] = replace(first, presentations=presentations)
    _check_labels(path, runs.values())
    _check_files(path, runs.values())
    return tuple(runs.values())


def format_runs_table(runs: Sequence[RunEntry], folder: Path) -> str:
    """Return the table as text, with paths relative to `folder` where they are below it."""
    lines = ["\t".join(COLUMNS)]
    for run in runs:
        bold = run.bold.relative_to(folder) if run.bold.is_relative_to(folder) else run.bold
        for presentation in run.presentations or (None,):
            times = (
                (presentation.onset_s, presentation.start_s, presentation.duration_s)
                if presentation
                else (None, None, None)
            )
            cells = [run.subject.removeprefix("sub-"), run.session, run.task, run.run, str(bold)]
            cells += [
                presentation.stimulus if presentation else "",
                *("" if t is None else f"{t:.6f}".rstrip("0").rstrip(".") for t in times),
            ]
            lines.append("\t".join(cell or "." for cell in cells))
    return "\n".join(lines) + "\n"


def runs_identity(runs: Sequence[RunEntry]) -> list[list[object]]:
    """Return all of the runs but their paths, which a store does not depend on."""
    return [
        [
            run.subject,
            split_dataset(run.bold)[1],
            *((p.stimulus, p.onset_s, p.start_s, p.duration_s) for p in run.presentations),
        ]
        for run in runs
    ]


def _text_of(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Set data.runs to a .tsv file.") from None


def _read_cells(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    """Return line number and cells of each row; missing values are empty."""
    lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    delimiter = find_delimiter([line for _, line in lines])
    table = [_cut(path, number, line, delimiter) for number, line in lines]
    header = [cell.strip() for cell in table[0]] if table else []
    missing = [name for name in NEEDED if name not in header]
    unknown = [name for name in header if name not in (*COLUMNS, *FILES)]
    if missing or unknown:
        unknown_words = "; ".join(f"{name!r} is unknown{nearest(name, list(COLUMNS))}" for name in unknown)
        missing_words = f"has no column {', '.join(missing)}" if missing else ""
        raise DataError(
            f"{path}: the table {missing_words}{'; ' if missing and unknown else ''}{unknown_words}.",
            f"Its columns, separated by tabs, commas or semicolons, are {', '.join((*COLUMNS, *FILES))}.",
        )
    if len(table) < 2:
        raise DataError(f"{path} has no run.", "Add a row for each run.")
    rows = []
    for (number, _), values in zip(lines[1:], table[1:], strict=True):
        if any(value.strip() for value in values[len(header) :]):
            raise DataError(
                f"{path}, row {number} has {len(values)} cells, the header {len(header)}.", "Correct the row."
            )
        cells = dict.fromkeys((*COLUMNS, *FILES), "") | dict(zip(header, (v.strip() for v in values), strict=False))
        rows.append((number, {name: "" if value in MISSING else value for name, value in cells.items()}))
    return rows


def _cut(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    cells = split_line(line, delimiter)
    if cells is None:
        raise DataError(f"{path}, row {number}: a quotation mark is not closed.", "Close or delete it.")
    return cells


def _entry(path: Path, number: int, cells: Mapping[str, str], folder: Path, stimuli: Sequence[str]) -> RunEntry:
    where = f"{path}, row {number}"
    for name in NEEDED:
        if not cells[name]:
            raise DataError(f"{where} has no {name}.", "Fill the cell.")
    presentations: tuple[Presentation, ...] = ()
    if cells["stimulus"]:
        if cells["stimulus"] not in stimuli:
            raise DataError(
                f"{where}: stimulus {cells['stimulus']!r} is unknown{nearest(cells['stimulus'], list(stimuli)) or '.'}",
                f"Define it in data.stimuli, which has {', '.join(stimuli) or 'none'}.",
            )
        onset_s, start_s = (_number(where, cells, name) or 0.0 for name in ("scan_onset_s", "stimulus_start_s"))
        duration_s = _number(where, cells, "duration_s")
        if start_s < 0 or (duration_s is not None and duration_s <= 0):
            raise DataError(f"{where}: stimulus_start_s must be at least 0, duration_s above 0.", "Correct the row.")
        presentations = (Presentation(cells["stimulus"], onset_s, start_s, duration_s, number),)
    bold = _file(folder, cells["bold"])
    brain_mask, confounds = companions(bold)
    return RunEntry(
        subject="sub-" + cells["subject"].removeprefix("sub-"),
        bold=bold,
        brain_mask=_file(folder, cells["brain_mask"]) if cells["brain_mask"] else brain_mask,
        confounds=_file(folder, cells["confounds"]) if cells["confounds"] else confounds,
        session=cells["session"],
        task=cells["task"],
        run=cells["run"],
        presentations=presentations,
        row=number,
    )


def _file(folder: Path, name: str) -> Path:
    return folder / Path(name).expanduser()


def _number(where: str, cells: Mapping[str, str], name: str) -> float | None:
    if not cells[name]:
        return None
    try:
        seconds = float(cells[name])
    except ValueError:
        seconds = nan
    if not isfinite(seconds):
        raise DataError(f"{where}: {name} is {cells[name]!r}, which is not a number.", "Give seconds, such as 4.5.")
    return seconds


def _check_labels(path: Path, runs: Iterable[RunEntry]) -> None:
    """Raise DataError for a subject whose number is written in two ways, such as 1 and 01."""
    labels: dict[str, RunEntry] = {}
    for run in runs:
        label = run.subject.removeprefix("sub-")
        first = labels.setdefault(label.lstrip("0") if label.isdigit() else label, run)
        if first.subject != run.subject:
            raise DataError(
                f"{path}, row {run.row}: the subject is {label}, and {first.subject.removeprefix('sub-')} in row "
                f"{first.row}.",
                "Write a subject's label in one way.",
            )


def _check_files(path: Path, runs: Iterable[RunEntry]) -> None:
    files = [(run, file) for run in runs for file in (run.bold, run.brain_mask, run.confounds) if file]
    missing = [(run, file) for run, series in files if (file := missing_file(series))]
    if missing:
        names = "; ".join(f"row {run.row}: {file}" for run, file in missing)
        fetch = any(file.is_symlink() for _, file in missing)
        raise DataError(
            f"{path}: {'a file does' if len(missing) == 1 else f'{len(missing)} files do'} not exist: {names}.",
            "Fetch them, for a datalad dataset with datalad get." if fetch else "Correct the paths or data.data_dir.",
        )
