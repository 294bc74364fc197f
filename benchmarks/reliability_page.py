"""Parts of the rows of `benchmarks.reliability` as records on disk, and the page that adds them up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import json as msgspec_json

Numbers = dict[str, list[float]]
"""Name of what is counted or measured -> a number for each time. Parts are added up by joining the lists."""
Outcome = tuple[str, bool]
"""Result in words, and whether it keeps the promise."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Measurements of one start of a row."""

    name: str
    """Of the row, as the command takes it."""
    seed: int
    """A part replaces an earlier one of the same row and seed."""
    count: int
    """How often it was done."""
    numbers: Numbers
    seconds: float
    measured_on: str
    """Date of the measurement."""


class Promise(NamedTuple):
    """A row: what is promised, how it is measured and judged."""

    subject: str
    """With {n} for how often."""
    promised: str
    n_times: int
    """Number of repetitions without `--count`."""
    judge: Callable[[Numbers], Outcome]
    is_summed: bool = True
    """Parts add up; else the newest part is the row."""


def save(path: Path, part: Part) -> None:
    """Append a part to the file in one write, so that rows can be measured at the same time."""
    with path.open("ab", buffering=0) as file:
        file.write(msgspec_json.encode(part) + b"\n")


def load(path: Path) -> dict[str, list[Part]]:
    """Map each row to its parts, oldest first; of one seed, the newest."""
    rows: dict[str, dict[int, Part]] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        part = msgspec_json.decode(line, type=Part)
        seeds = rows.setdefault(part.name, {})
        seeds.pop(part.seed, None)
        seeds[part.seed] = part
    return {name: list(seeds.values()) for name, seeds in rows.items()}


def outcome(promise: Promise, parts: Sequence[Part]) -> Outcome:
    """Judge the parts of a row together."""
    numbers: Numbers = {}
    for part in _counted(promise, parts):
        for name, values in part.numbers.items():
            numbers.setdefault(name, []).extend(values)
    return promise.judge(numbers)


def page(rows: Mapping[str, Sequence[Part]], promises: Mapping[str, Promise]) -> str:
    """Return the page in Markdown; rows without a figure are listed too."""
    missing = [f"`{name}`" for name in promises if name not in rows]
    lines = [_HEAD, _TABLE, *(_line(name, promises[name], rows[name]) for name in promises if name in rows), ""]
    if missing:
        lines += [f"Not measured: {', '.join(missing)}.", ""]
    return "\n".join(lines)


_HEAD = """\
# Reliability

For readers who decide whether to trust runs of weeks to giblet: each promise, and what was reached when it was tested.

`make storm` writes this page; `python -m benchmarks.reliability ROW` measures one row. Parts with different seeds add
up in `benchmarks/reliability.jsonl`. sshd, tmux, screen, processes and accounts are real, on one machine. There is no
GPU (nvidia-smi is a recording), no real network and no power loss. Two cores shared with other work: counts are exact,
times are upper bounds. A seed makes the same choices again; how the processes are scheduled differs.
"""
_TABLE = """\
| row | done | promised | reached | kept | seeds | minutes | date |
|---|---|---|---|---|---|---|---|"""


def _counted(promise: Promise, parts: Sequence[Part]) -> Sequence[Part]:
    return parts if promise.is_summed else parts[-1:]


def _line(name: str, promise: Promise, parts: Sequence[Part]) -> str:
    own_parts = _counted(promise, parts)
    count = sum(part.count for part in own_parts)
    result, is_kept = outcome(promise, parts)
    fewer = f" (without `--count`: {promise.n_times:,})" if count < promise.n_times else ""
    dates = sorted({part.measured_on for part in own_parts})
    cells = [
        f"`{name}`",
        promise.subject.format(n=f"{count:,}") + fewer,
        promise.promised,
        result,
        "yes" if is_kept else "**no**",
        ", ".join(str(part.seed) for part in sorted(own_parts, key=lambda part: part.seed)),
        f"{sum(part.seconds for part in own_parts) / 60:.1f}",
        dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}",
    ]
    return f"| {' | '.join(cells)} |"
