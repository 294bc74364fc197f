"""Command that makes studies whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.cli.arguments import report_progress
from giblet_train.data.simulation.demo_study import format_json, simulate_study
from giblet_train.data.simulation.layout_study import describe_layouts, simulate_layout


def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the study; created if missing, unchanged if complete.")],
    size: Annotated[
        Literal["tiny", "small", "full", "scale", "sherlock"],
        typer.Option(
            help="tiny: unit tests; small: the demo; full: 17 subjects at 3 mm; scale: 920 TRs; sherlock: 5 subjects, "
            "two scans of 946 and 1030 TRs, generated film."
        ),
    ] = "small",
    seed: Annotated[int, typer.Option(min=0, help="The same seed and film give the same bytes.")] = 0,
    film: Annotated[
        Path | None, typer.Option(help="Another film; a .csv file of the same name describes its shots.")
    ] = None,
    subjects: Annotated[int | None, typer.Option(min=1, help="Number of subjects; default: the size's.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout of a public data set instead, tiny: sherlock, hbn, ...; `list` for all.")
    ] = None,
) -> None:
    """Create the demo study: a real film and brains simulated from it with known truth. Prints the study's facts.

    With --layout, OUT/study has the files of a study as a public data set shares them, and OUT/truth.tsv the true table
    of runs, which is printed.
    """
    if layout is not None:
        print(
            describe_layouts()
            if layout == "list"
            else simulate_layout(out, layout, seed=seed, progress=report_progress),
            end="",
        )
        return

    facts = simulate_study(out, size, seed=seed, film=film, n_subjects=subjects, progress=report_progress)
    print(format_json(facts).decode(), end="")
