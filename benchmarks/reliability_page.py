"""Rows of `benchmarks.reliability` as records on disk, and the page that is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import json as msgspec_json


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One promise, and what was reached."""

    name: str
    """Of the row, as the command takes it."""
    subject: str
    """What was done, and how often."""
    promised: str
    reached: str
    is_kept: bool
    seed: int
    count: int
    """How often it was done."""
    full_count: int
    """How often it is done without `--count`."""
    seconds: float
    measured_on: str
    """Date of the measurement."""


def save(folder: Path, row: Row) -> None:
    """Write a row's file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{row.name}.part"
    aside.write_bytes(msgspec_json.encode(row))
    aside.replace(folder / f"{row.name}.json")


def load(folder: Path, names: Sequence[str]) -> list[Row]:
    """Return the rows that were measured, in the order of names."""
    paths = [folder / f"{name}.json" for name in names]
    return [msgspec_json.decode(path.read_bytes(), type=Row) for path in paths if path.exists()]


def page(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the page in Markdown. names: of all rows, so that those without a figure are listed too."""
    measured = {row.name for row in rows}
    missing = [f"`{name}`" for name in names if name not in measured]
    lines = [_HEAD, _TABLE, *map(_line, rows), ""]
    if missing:
        lines += [f"Not measured: {', '.join(missing)}.", ""]
    return "\n".join(lines)


_HEAD = """\
# Reliability

For readers who decide whether to trust runs of weeks to giblet: each promise, and what was reached when it was tested.

`make storm` writes this page; `python -m benchmarks.reliability ROW` measures one row. sshd, tmux, screen, processes
and accounts are real, on one machine. There is no GPU (nvidia-smi is a recording), no real network and no power loss.
Two cores shared with other work: counts are exact, times are upper bounds. A seed makes the same choices again; how the
processes are scheduled differs.
"""
_TABLE = """\
| row | done | promised | reached | kept | seed | minutes | date |
|---|---|---|---|---|---|---|---|"""


def _line(row: Row) -> str:
    fewer = f" (without `--count`: {row.full_count:,})" if row.count < row.full_count else ""
    cells = [
        f"`{row.name}`",
        row.subject + fewer,
        row.promised,
        row.reached,
        "yes" if row.is_kept else "**no**",
        str(row.seed),
        f"{row.seconds / 60:.1f}",
        row.measured_on,
    ]
    return f"| {' | '.join(cells)} |"
