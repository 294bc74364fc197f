"""Arguments and options that several commands share, and the progress messages of all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

RunWithCheckpoint = Annotated[
    Path, typer.Argument(help="Run directory with at least one checkpoint, or what `giblet pull --best` brought.")
]
Role = Annotated[Literal["best", "last"], typer.Option(help="Which checkpoint.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunOrConfig = Annotated[
    Path, typer.Argument(help="A run directory, a configuration file, or - for one on standard input.")
]
Workdir = Annotated[
    Path | None, typer.Option(help="Folder of stores and studies; default: the run's own, or ~/giblet.")
]
Out = Annotated[Path | None, typer.Option(help="New folder in which the figures are also saved, as JSON and as text.")]
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A published model, or a run directory whose study is here.")
]
FilmFile = Annotated[Path, typer.Argument(metavar="FILM", help="A film that is on this machine.")]
FilmAnnotations = Annotated[
    Path | None,
    typer.Option(help="Annotations of the film: a table (start_s, end_s, detail), BIDS events or subtitles."),
]
FilmFeatureFiles = Annotated[
    list[str] | None,
    typer.Option(metavar="MODALITY=FILE", help="Features that giblet does not compute, as .npy; repeatable."),
]
WithoutModality = Annotated[
    list[str] | None,
    typer.Option(metavar="MODALITY", help="Predict as if this modality were at its training mean; repeatable."),
]
FilmStart = Annotated[float, typer.Option(min=0, help="Second of the film at which the first volume begins.")]
ScanLengths = Annotated[
    str, typer.Option(metavar="N,N", help="Rows of each part, if the times of the annotations restart in each.")
]
Bold = Annotated[Path, typer.Option(help="Responses: a series in the model's space, such as NIfTI.")]
BoldTr = Annotated[float | None, typer.Option(help="Seconds per volume, if the file does not state it.")]
NewFolder = Annotated[Path, typer.Option("-o", "--out", help="New folder for the files.")]
Subjects = Annotated[str, typer.Option(metavar="1,2", help="Subjects whose heads are included; default: none.")]


def report_progress(sentence: str, fraction: float | None = None) -> None:
    """Print a progress message to stderr, with the finished fraction if it is known."""
    print(sentence if fraction is None else f"[{fraction:4.0%}] {sentence}", file=sys.stderr, flush=True)
