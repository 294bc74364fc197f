"""What of a run's records could not be read: the file, what is wrong in it, where it lies, and what to do."""

from __future__ import annotations

from giblet_train.schema.errors import DataError
from giblet_tui.monitor.snapshots import RunSnapshot

LOST_WITH = {
    "run.json": "who started it, where and how is not known",
    "config.yaml": "its plan and criteria are not known",
}
"""File -> what cannot be told without it."""


def read_errors(run: RunSnapshot, folder: str) -> list[DataError]:
    """An error for each unreadable file of a run that was read whole. folder: where it lies, `tensor01:~/giblet/…`."""
    unread = dict(run.unread)
    if run.config is None and run.run.adopted is None:
        unread.setdefault("config.yaml", "It is not there.")
    return [_complaint(name, why, folder) for name, why in unread.items()]


def damaged_record_message(n_lines: int, n_read: int, folder: str, first: str = "") -> list[str]:
    """What to say of lines of metrics.jsonl that are no records, beside n_read that are. first: which, if known."""
    if not n_lines:
        return []
    lines = "1 line is no record" if n_lines == 1 else f"{n_lines} lines are no records"
    rest = f"the other {n_read} are read" if n_read else "there are no others, so losses and rates are not known"
    where = f" ({first})" if first else ""
    return [f"{folder}/metrics.jsonl: {lines}{where}; {rest}. A full disk or a hand in the file does this."]


def _complaint(name: str, why: str, folder: str) -> DataError:
    return DataError(
        f"{name} cannot be read, so {LOST_WITH[name]}. {why}",
        f"It is {folder}/{name}. Mend it there, or put back the copy of an earlier `giblet pull`.",
    )
