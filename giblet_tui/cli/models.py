"""`giblet predict`, `new-subject`, `decode`: use a published model on files of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import node_names
from giblet_tui.cli.console import check_parent
from giblet_tui.cli.engine_here import LOCAL, run_here
from giblet_tui.cli.parameters import Argument, Option

Model = Annotated[Path, Argument(metavar="MODEL", help="A published model, or a run directory whose study is here.")]
Film = Annotated[Path, Argument(metavar="FILM", help="A film that is on this machine.")]
Annotations = Annotated[
    Path | None,
    Option(help="Annotations of the film: a table (start_s, end_s, detail), BIDS events or subtitles."),
]
ScanLengths = Annotated[
    str, Option(metavar="N,N", help="Rows of each part, if the times of the annotations restart in each.")
]
Features = Annotated[
    list[str] | None,
    Option(metavar="MODALITY=FILE", help="Features that giblet does not compute, as .npy; repeatable."),
]
Without = Annotated[
    list[str] | None,
    Option(metavar="MODALITY", help="Predict as if this modality were at its training mean; repeatable."),
]
Bold = Annotated[Path, Option(help="Responses: a series in the model's space, such as NIfTI.")]
BoldTr = Annotated[float | None, Option(help="Seconds per volume, if the file does not state it.")]
Start = Annotated[float, Option(min=0, help="Second of the film at which the first volume begins.")]
Out = Annotated[Path, Option("-o", "--out", help="New folder for the files.")]


FilesOn = Annotated[
    str,
    Option(
        "--node",
        metavar="NODE",
        help="Machine that has all named files and runs this; paths are relative to its workdir. Default: this one.",
        autocompletion=node_names,
    ),
]


class _Words:
    """Words of an engine command line, and the positions of those that are files."""

    def __init__(self, verb: str, node_name: str, out: Path) -> None:
        self.argv = [verb]
        self.node_name = node_name
        if node_name == LOCAL:
            check_parent(out)
        self.paths: set[int] = set()

    def path(self, path: Path | None, option: str = "") -> None:
        """Add a file, behind its option if it has one; nothing without a file."""
        if path is not None:
            self.argv += [option] if option else []
            self.paths.add(len(self.argv))
            self.argv.append(str(path))

    def option(self, name: str, *values: object) -> None:
        """Add an option once for each value."""
        for value in values:
            self.argv += [name, str(value)]

    def film(
        self, annotations: Path | None, scan_lengths: str, features: list[str] | None, without: list[str] | None
    ) -> None:
        """Add what belongs to a film."""
        self.path(annotations, "--annotations")
        self.option("--scan-lengths", *([scan_lengths] if scan_lengths else []))
        self.option("--without", *(without or []))
        for word in features or []:
            modality, _, file = word.partition("=")
            is_here = self.node_name == LOCAL
            self.option("--features", f"{modality}={Path(file).expanduser().absolute()}" if file and is_here else word)


@command(
    app,
    "predict",
    "giblet predict model.giblet film.mp4 --annotations film.csv -o predicted",
    "giblet predict model.giblet film.mp4 --without text --subject 1 --tr 2 -o predicted",
    "giblet predict runs/demo-2026 /data/film.mp4 --without text --node tensor01 -o predicted",
)
def predict(
    model: Model,
    film: Film,
    out: Out,
    subject: Annotated[
        list[str] | None, Option(help="A head of the model, such as 1; repeatable. Default: average.")
    ] = None,
    annotations: Annotations = None,
    scan_lengths: ScanLengths = "",
    features: Features = None,
    without: Without = None,
    tr: Annotated[float | None, Option(help="Seconds per volume; default: the model's TR.")] = None,
    start: Start = 0.0,
    node: FilesOn = LOCAL,
    json: Json = False,
) -> None:
    """Predict the responses to a new film, as series in the study's format with BIDS names and sidecars.

    It runs on the CPU of this machine, or of --node, which needs the engine. The film is read a part at a time:
    memory does not grow with its length.
    """
    words = _Words("predict", node, out)
    words.path(model)
    words.path(film)
    words.path(out, "--out")
    words.option("--subject", *(subject or []))
    words.film(annotations, scan_lengths, features, without)
    words.option("--tr", *([] if tr is None else [tr]))
    words.option("--start", start)
    run_here(words.argv, json, words.paths, node)


@command(
    app,
    "new-subject",
    "giblet new-subject model.giblet --bold sub-07.nii.gz --film film.mp4 --without text --name 07 -o 07.giblet",
)
def new_subject(
    model: Model,
    bold: Bold,
    film: Annotated[Path, Option(help="The film that the person saw.")],
    out: Annotated[Path, Option("-o", "--out", help="File for the model with the new head; ends with .giblet.")],
    name: Annotated[str, Option(help="Label of the person, letters and digits.")] = "new",
    annotations: Annotations = None,
    scan_lengths: ScanLengths = "",
    features: Features = None,
    without: Without = None,
    tr: BoldTr = None,
    start: Start = 0.0,
    node: FilesOn = LOCAL,
    json: Json = False,
) -> None:
    """Fit a head for a new person from minutes of data, and report held-out r next to the average subject and ridge.

    The head is fitted in closed form; the model is written to a new file with the head in it.
    """
    words = _Words("new-subject", node, out)
    words.path(model)
    words.path(bold, "--bold")
    words.path(film, "--film")
    words.path(out, "--out")
    words.option("--name", name)
    words.film(annotations, scan_lengths, features, without)
    words.option("--tr", *([] if tr is None else [tr]))
    words.option("--start", start)
    run_here(words.argv, json, words.paths, node)


@command(
    app,
    "decode",
    "giblet decode model.giblet --bold sub-01.nii.gz --subject 1 -o decoded",
    "giblet decode model.giblet --bold sub-01.nii.gz --film film.mp4 --annotations film.csv -o decoded",
)
def decode(
    model: Model,
    bold: Bold,
    out: Out,
    subject: Annotated[str | None, Option(help="Head that reads the responses; default: average.")] = None,
    film: Annotated[Path | None, Option(help="The film that was shown, to compare with.")] = None,
    annotations: Annotations = None,
    scan_lengths: ScanLengths = "",
    features: Features = None,
    without: Without = None,
    tr: BoldTr = None,
    start: Start = 0.0,
    node: FilesOn = LOCAL,
    json: Json = False,
) -> None:
    """Reconstruct the film from one person's responses: a page with pictures, sound and the nearest annotations.

    With --film, segments of the film are also identified.
    """
    words = _Words("decode", node, out)
    words.path(model)
    words.path(bold, "--bold")
    words.path(out, "--out")
    words.option("--subject", *([] if subject is None else [subject]))
    words.path(film, "--film")
    words.film(annotations, scan_lengths, features, without)
    words.option("--tr", *([] if tr is None else [tr]))
    words.option("--start", start)
    run_here(words.argv, json, words.paths, node)
