"""`giblet brain`: the brain maps of a run in the terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated, Literal

from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, RunName
from giblet_tui.cli.console import print_data, show_json
from giblet_tui.cli.parameters import Option
from giblet_tui.cli.runs import find
from giblet_tui.reporting import SCHEMA, brain_view

MAX_COLUMNS, MAX_ROWS = 160, 40
"""A brain larger than this shows no more."""


@command(
    app,
    "brain",
    "giblet brain @last",
    "giblet brain @last --map space",
    "giblet brain @last --subject 3",
    "giblet brain @last --map memory --json",
)
def brain(
    name: RunName,
    map_name: Annotated[
        Literal["r", "ceiling", "space", "memory", "region"],
        Option("--map", help="r: prediction; space: what drives each voxel; memory: for how long."),
    ] = "r",
    subject: Annotated[str | None, Option(metavar="S", help="r of one subject, once the run is evaluated.")] = None,
    json: Json = False,
) -> None:
    """Show a run's brain from the left, from behind and from above, with the place and the value of its peak.

    While the run trains, r is that of the last validation in responsive voxels; afterwards, of the held-out test block.
    """
    run = find(name)
    record = run.brain
    if record is None:
        raise ConfigError(
            f"{run.run.run_id} has no brain maps yet.",
            "It writes them at its first validation, unless its heads are sharded: giblet evaluate RUN",
        )
    key: str = map_name
    if subject is not None:
        if map_name != "r":
            raise ConfigError("--subject is for the map r.", "Leave --map out.")
        key = f"r:{_label(subject, [m.removeprefix('r:') for m in record.maps if m.startswith('r:')])}"
    volume = brain_view.decode_map(record, key)
    peak = volume.peak
    if json:
        x, y, z = volume.mm(peak)
        show_json(
            {
                "schema": SCHEMA, "run_id": run.run.run_id, "map": key, "title": volume.brain_map.title,
                "step": record.step, "held_out": record.held_out, "shape": record.shape, "step_mm": record.step_mm,
                "origin_mm": record.origin_mm, "peak_mm": (x, y, z), "peak": volume.describe(peak),
                "names": volume.brain_map.names, "low": volume.brain_map.low, "high": volume.brain_map.high,
                "codes": volume.code_XYZ.ravel().tolist(),
            }
        )  # fmt: skip
        return
    size = shutil.get_terminal_size((100, 30))
    columns, rows = min(size.columns, MAX_COLUMNS), max(4, min(size.lines - 6, MAX_ROWS))
    n_colors = _n_colors()
    print_data(f"{volume.brain_map.title}, step {record.step}")
    for cells in brain_view.draw(volume, columns, rows):
        print_data(brain_view.ansi_line(cells, n_colors))
    print_data(brain_view.view_labels(volume, columns, rows))
    print_data("  ".join(brain_view.ansi_line(cells, n_colors) for cells in brain_view.key_cells(volume)))
    if not volume.brain_map.names and volume.has_values:
        print_data(f"peak at {brain_view.place_words(volume, peak)}")


def _label(subject: str, labels: list[str]) -> str:
    """Return the label of a subject that is named by label or number. Raises ConfigError."""
    for label in labels:
        digits = label.removeprefix("sub-")
        if subject in (label, digits) or (subject.isdigit() and digits.isdigit() and int(subject) == int(digits)):
            return label
    remedy = f"There are: {', '.join(labels)}." if labels else "They are written when the run is evaluated, at its end."
    raise ConfigError(f"There is no map of subject {subject}.", remedy)


def _n_colors() -> int:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", None):
        return 0
    return 2**24 if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") else 256
