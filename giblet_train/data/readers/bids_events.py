"""Read BIDS events as annotations: onset and duration become start and end, the event's type its description.

Other columns may have the names of `Segment`'s fields (detail, names_all, location, ...).
"""

from __future__ import annotations

import csv
from pathlib import Path

from giblet_train.schema.errors import DataError

MISSING = "n/a"
DESCRIPTIONS = ("detail", "trial_type", "text", "word", "value", "stim_file")
"""Columns that may describe an event, the first that exists."""


def events_table(path: Path) -> list[list[str]]:
    """Return the rows under the names of `Segment`'s fields, header first.

    A missing duration is 0. Raises DataError for a file without onset, duration or description, and for times that are
    not numbers.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        rows = [{key: _cell(value) for key, value in row.items() if key} for row in reader]
        columns = list(reader.fieldnames or ())
    described = next((name for name in DESCRIPTIONS if name in columns), None)
    if described is None or not {"onset", "duration"} <= set(columns):
        raise DataError(
            f"{path} has the columns {', '.join(columns) or 'none'}; events need onset, duration and "
            f"one of {', '.join(DESCRIPTIONS)}.",
            "Separate the columns by tabs and name them as BIDS does.",
        )
    others = [name for name in columns if name not in ("onset", "duration", described, "detail")]
    others += [name for name in ("names_all", "location") if name not in others]
    table = [["start_s", "end_s", "detail", *others]]
    for number, row in enumerate(rows, 2):
        end_s = _end_s(path, number, row["onset"], row["duration"] or "0")
        table.append([row["onset"], end_s, row[described], *(row.get(name, "") for name in others)])
    return table


def _cell(value: str | list[str] | None) -> str:
    return "" if not isinstance(value, str) or value.strip() == MISSING else value.strip()


def _end_s(path: Path, number: int, onset: str, duration: str) -> str:
    try:
        return str(float(onset) + float(duration))
    except ValueError:
        raise DataError(
            f"{path}, row {number}: onset {onset or MISSING} and duration {duration or MISSING} are no two numbers.",
            "Give both in seconds from the run's start.",
        ) from None
