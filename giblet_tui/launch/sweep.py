"""The runs of a sweep: every combination of the values of a grid, checked before any of them starts."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from giblet_train.schema.config import content_hash
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.records import SweepCell
from giblet_train.schema.run_dir import LONGEST_NAME
from giblet_tui.launch.command import command_hash
from giblet_tui.launch.request import LaunchRequest

MAX_RUNS = 64
GRID_EXAMPLE = "For example: --grid learning_rate=1e-4,3e-4 --grid data.normalize_fmri=true,false"
_PIECE = re.compile(r"""(?:[^,\[\]{}"']|\[[^\]]*\]|\{[^}]*\}|"[^"]*"|'[^']*')+""")

Cell = Mapping[str, str]


def parse_grid(texts: Sequence[str]) -> list[Cell]:
    """Parse `--grid KEY=VALUE,VALUE` texts into one mapping per run, the last key changing fastest.

    Commas inside brackets and quotes belong to a value. Raises ConfigError.
    """
    axes: dict[str, list[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        key, parts = key.strip(), [part.strip() for part in _PIECE.findall(values)]
        if not equals or not key or not parts or "" in parts:
            raise ConfigError(f"--grid {text}: a grid is written KEY=VALUE,VALUE.", GRID_EXAMPLE)
        if key in axes:
            raise ConfigError(f"--grid {key} is given twice.", f"All its values go into one: --grid {key}=A,B")
        if len(set(parts)) < len(parts):
            raise ConfigError(f"--grid {text} names a value twice.", "Leave out one of them.")
        axes[key] = parts
    cells: list[Cell] = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if len(cells) > MAX_RUNS:
        raise ConfigError(f"The grid has {len(cells)} runs, more than {MAX_RUNS}.", "Take fewer values.")
    return cells


def sweep_requests(
    cells: Sequence[Cell], build: Callable[[Cell], LaunchRequest], *, stop_hopeless: bool
) -> list[LaunchRequest]:
    """Return one request per cell, each waiting on the node for its own GPUs.

    Args:
        build: makes the request of one cell; a ConfigError that it raises is reported with the cell.

    Raises ConfigError that lists every cell that cannot be launched, or cells that are the same run.
    """
    requests: list[LaunchRequest] = []
    errors: dict[str, list[str]] = {}
    for cell in cells:
        try:
            requests.append(build(cell))
        except ConfigError as error:
            errors.setdefault(f"{error.message} {error.remedy}".strip(), []).append(format_cell(cell))
    if errors:
        n_bad = sum(map(len, errors.values()))
        lines = [line for reason, bad in errors.items() for line in (*bad, f"  {reason}")]
        raise ConfigError(f"{n_bad} of {len(cells)} runs of the grid cannot be launched:", "\n  ".join(lines))
    _refuse_doubles(cells, requests)
    if stop_hopeless and any(request.command is not None or not request.config.criteria for request in requests):
        raise ConfigError(
            "--stop-hopeless ends runs that can no longer meet their criteria, and this one has none.",
            "Add some under `criteria:` in the configuration, or leave --stop-hopeless out.",
        )
    name = f"{requests[0].config.name[: LONGEST_NAME - 10]}-grid-{secrets.token_hex(2)}"
    return [
        replace(
            request,
            when_free=not request.is_job,
            note=f"{request.note} ({format_cell(cell)})" if request.note else format_cell(cell),
            sweep=SweepCell(
                name=name, values=dict(cell), number=number, n_runs=len(cells), stop_hopeless=stop_hopeless
            ),
        )
        for number, (cell, request) in enumerate(zip(cells, requests, strict=True), 1)
    ]


def format_cell(cell: Cell) -> str:
    """Return a cell for people."""
    return " ".join(f"{key}={value}" for key, value in cell.items())


def fill_placeholders(words: Sequence[str], cell: Cell) -> list[str]:
    """Return a command's words with `{key}` replaced by the cell's value. Raises ConfigError for an unused key."""
    for key in cell:
        if not any(f"{{{key}}}" in word for word in words):
            raise ConfigError(
                f"No word of the command contains {{{key}}}, so all its values would be the same run.",
                f"For example: -- python train.py --{key} '{{{key}}}'",
            )
    words_filled = []
    for word in words:
        for key, value in cell.items():
            word = word.replace(f"{{{key}}}", value)
        words_filled.append(word)
    return words_filled


def _refuse_doubles(cells: Sequence[Cell], requests: Sequence[LaunchRequest]) -> None:
    first: dict[str, Cell] = {}
    for cell, request in zip(cells, requests, strict=True):
        identity = content_hash(request.config) if request.command is None else command_hash(request.command)
        if identity in first:
            raise ConfigError(
                f"Two runs of the grid are the same: {format_cell(first[identity])} and {format_cell(cell)}.",
                "Leave out one of the values.",
            )
        first[identity] = cell
