"""Report files of a run that could not be read: file, fault, location, remedy."""

from __future__ import annotations

from giblet_train.schema.errors import DataError
from giblet_tui.monitor.snapshots import RunSnapshot

CONSEQUENCES = {
    "run.json": "who started it, where and how is not known",
    "config.yaml": "its plan and criteria are not known",
}
"""File -> what is unknown without it."""


def read_errors(run: RunSnapshot, folder: str) -> list[DataError]:
    """Return an error for each unreadable file of a run.

    Args:
        folder: Location of the files, such as `tensor01:~/giblet/…`.
    """
    unread = dict(run.unread)
    if run.config is None and not run.run.foreign:
        unread.setdefault("config.yaml", "It is not there.")
    return [_unreadable_file_error(name, why, folder) for name, why in unread.items()]


def damaged_record_message(n_lines: int, n_read: int, folder: str, first: str = "") -> list[str]:
    """Format a message about damaged lines of metrics.jsonl.

    Args:
        n_lines: Number of damaged lines.
        n_read: Number of intact lines.
        folder: Location of the file.
        first: Position of the first damaged line, if known.
    """
    if not n_lines:
        return []
    lines = "1 line is no record" if n_lines == 1 else f"{n_lines} lines are no records"
    rest = f"the other {n_read} are read" if n_read else "there are no others, so losses and rates are not known"
    where = f" ({first})" if first else ""
    return [f"{folder}/metrics.jsonl: {lines}{where}; {rest}. A full disk or a hand in the file does this."]


def _unreadable_file_error(name: str, why: str, folder: str) -> DataError:
    return DataError(
        f"{name} cannot be read, so {CONSEQUENCES[name]}. {why}",
        f"It is {folder}/{name}. Repair it there, or put back the copy of an earlier `giblet pull`.",
    )
