"""Command line of the engine: `python -m giblet_train COMMAND`. Each command imports its modules when it is called.

Data go to stdout, progress to stderr. User errors end with a message and an exit code, never with a traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.schema.errors import FAILED, GibletError

app = typer.Typer(
    name="python -m giblet_train",
    help="giblet's training engine: make a demo study, prepare data, train, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(name="data", help="Check a study before training on it.", no_args_is_help=True)
app.add_typer(data_app)

RunWithCheckpoint = Annotated[
    Path, typer.Argument(help="Run directory with at least one checkpoint, or what `giblet pull --best` brought.")
]
Role = Annotated[Literal["best", "last"], typer.Option(help="Which checkpoint.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]
RunOrConfig = Annotated[
    Path, typer.Argument(help="A run directory, a configuration file, or - for one on standard input.")
]
Workdir = Annotated[
    Path | None, typer.Option(help="Folder of stores and studies; default: the run's own, or ~/giblet.")
]
Out = Annotated[Path | None, typer.Option(help="New folder in which the figures are also saved, as JSON and as text.")]
Model = Annotated[Path, typer.Argument(help="A published model, or a run directory whose study is here.")]
FilmFile = Annotated[Path, typer.Argument(help="A film that is on this machine.")]
FilmAnnotations = Annotated[
    Path | None, typer.Option(help="Annotations of the film: a table with start, end and text.")
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


@app.command()
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
    from giblet_train.data.simulation.demo_study import format_json, simulate_study
    from giblet_train.data.simulation.layout_study import describe_layouts, simulate_layout

    if layout is not None:
        print(
            describe_layouts() if layout == "list" else simulate_layout(out, layout, seed=seed, progress=narrate),
            end="",
        )
        return

    facts = simulate_study(out, size, seed=seed, film=film, n_subjects=subjects, progress=narrate)
    print(format_json(facts).decode(), end="")


@app.command()
def train(run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")]) -> None:
    """Train RUN_DIR/config.yaml, alone or under torchrun. Exit 0 done or stopped, 75 terminated, 1 failed."""
    from giblet_train.analysis.report_hook import ReportHook
    from giblet_train.training.load_split import load_split
    from giblet_train.training.process import train_with_error_file

    sys.exit(train_with_error_file(run_dir, load_split, ReportHook()))


@app.command()
def drill(
    fault: Annotated[str, typer.Argument(help="A fault listed by `giblet demo --help`.")],
    run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")],
) -> None:
    """Train with a fault injected on purpose; started by `giblet demo FAULT`."""
    from giblet_train.training.fault_injection import train_with_fault
    from giblet_train.training.load_split import load_split

    sys.exit(train_with_fault(fault, run_dir, load_split))


@app.command()
def join(run_dir: Annotated[Path, typer.Argument(help="Run directory whose run.json names several nodes.")]) -> None:
    """Train this node's part of a multi-node run: meet the other nodes, start torchrun, end together."""
    from giblet_train.distributed.multi_node import join as take_part
    from giblet_train.schema.run_dir import RunDir

    sys.exit(take_part(RunDir(run_dir.resolve())))


@app.command()
def evaluate(
    run_dir: RunWithCheckpoint,
    role: Role = "best",
    out: Out = None,
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run's checkpoint on the test block of its fold; the run is not changed.

    --out also writes report.html, lesions of each region, and maps: r, p, FDR and noise ceiling of each voxel,
    in the format of the study.

    python -m giblet_train evaluate ~/giblet/runs/demo-20261125-101500-3f2a --json
    """
    from giblet_train.analysis.evaluation_folder import evaluate_into
    from giblet_train.analysis.load_run import load_run
    from giblet_train.analysis.results import make_output_dir, write_results
    from giblet_train.training.load_split import load_split

    folder = make_output_dir(out)
    run = load_run(run_dir, role, load_split, narrate, workdir)
    figures, lines = evaluate_into(run, folder, narrate)
    print(write_results("evaluation", figures, lines, None, as_json))


@app.command()
def ensemble(
    run_dirs: Annotated[list[Path], typer.Argument(help="Runs that differ only by seed, fold and validation block.")],
    seeds: Annotated[
        int,
        typer.Option(min=1, help="First train N seeds of the run, with different validation blocks; given runs count."),
    ] = 1,
    all_folds: Annotated[bool, typer.Option("--all-folds", help="Train every fold of the run first.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; each uses one GPU if there are any.")] = 1,
    role: Role = "best",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Average runs per fold, and compare with their members, ridge and pooled ridge.

    Members with different validation blocks together train on every TR outside the test block.

    python -m giblet_train ensemble ~/giblet/runs/demo-*            # existing runs

    python -m giblet_train ensemble RUN_DIR --seeds 5 --all-folds --jobs 8   # trains the missing runs first
    """
    from giblet_train.analysis.ensemble import lines_of, report, score_folds
    from giblet_train.analysis.results import make_output_dir, write_results
    from giblet_train.distributed.local_queue import train_missing_members
    from giblet_train.training.load_split import load_split

    folder = make_output_dir(out)
    members = train_missing_members(run_dirs, seeds, all_folds, jobs, narrate)
    figures = report(score_folds(members, role, load_split, narrate))
    print(write_results("ensemble", figures, lines_of(figures), folder, as_json))


@app.command()
def lesion(
    run_dir: RunWithCheckpoint,
    region: Annotated[
        list[str] | None, typer.Option(help="A region, or several as a+b; may be repeated. Default: all.")
    ] = None,
    atlas: Annotated[
        Path | None, typer.Option(help="NIfTI with a whole number per region, instead of the truth.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="NIfTI whose non-zero voxels form one more region.")] = None,
    mode: Annotated[
        Literal["silence", "missing"],
        typer.Option(help="silence: set responses to 0, as in damage; missing: also remove them from the readout."),
    ] = "missing",
    source: Annotated[
        Literal["measured", "predicted"], typer.Option(help="Brains to reconstruct the film from.")
    ] = "measured",
    draws: Annotated[int, typer.Option(min=20, help="Random voxel sets to compare with each lesion.")] = 200,
    role: Role = "best",
    out: Out = None,
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the film without each region's voxels, compared with random voxel sets of the same size.

    python -m giblet_train lesion RUN_DIR                                    # every region of the demo study
    python -m giblet_train lesion RUN_DIR --region early_visual+higher_visual --mode silence
    python -m giblet_train lesion RUN_DIR --atlas parcels.nii.gz --region 17 --region 18 --json
    """
    from giblet_train.analysis.lesions import lesion_lines, lesion_study
    from giblet_train.analysis.load_run import load_run
    from giblet_train.analysis.results import make_output_dir, write_results
    from giblet_train.training.load_split import load_split

    folder = make_output_dir(out)
    run = load_run(run_dir, role, load_split, narrate, workdir)
    study = lesion_study(run, run.parcels(region or (), atlas, mask), source, mode, draws, narrate)
    print(write_results("lesion", study, lesion_lines(study), folder, as_json))


@app.command()
def rebuild(
    run_dir: RunWithCheckpoint,
    out: Annotated[Path, typer.Argument(help="New folder: index.html, frames.png, .wav files, words.json.")],
    role: Role = "best",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the held-out film from measured and predicted brains: pictures, sound and nearest annotations.

    python -m giblet_train rebuild ~/giblet/runs/demo-20261125-101500-3f2a rebuilt && open rebuilt/index.html
    """
    from giblet_train.analysis.load_run import load_run
    from giblet_train.analysis.reconstruct import format_reconstruction, reconstruct
    from giblet_train.analysis.results import make_output_dir, write_results
    from giblet_train.training.load_split import load_split

    folder = make_output_dir(out)
    assert folder is not None
    words = reconstruct(load_run(run_dir, role, load_split, narrate, workdir), folder, narrate)
    text = write_results("words", words, format_reconstruction(words), folder, as_json)
    print(text if as_json else f"{folder / 'index.html'}\n{text}")


@app.command("publish")
def publish_model(
    run_dir: RunWithCheckpoint,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File that ends with .giblet, or a new folder for it and its card.")
    ],
    subjects: Subjects = "",
    licence: Annotated[str | None, typer.Option(help="Licence of the model, for its card.")] = None,
    role: Role = "best",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Write a model to one file that opens without study, store or node; it has no training data. Prints its card.

    Only the average subject is included unless --subjects names some: a head describes one person's brain.

    python -m giblet_train publish RUN_DIR -o model.giblet --licence CC-BY-4.0
    """
    import json

    from giblet_train.portable.open_model import card_facts, publish_run
    from giblet_train.portable.publish import model_card

    labels = [s for s in subjects.split(",") if s]
    path, model = publish_run(run_dir, role, labels, licence, out, narrate, workdir)
    narrate(f"{path}, {path.stat().st_size / 1e6:.1f} MB")
    print(json.dumps(card_facts(model)) if as_json else "\n".join(model_card(model)))


@app.command()
def predict(
    model: Model,
    film: FilmFile,
    out: NewFolder,
    subject: Annotated[
        list[str] | None, typer.Option(help="A head of the model; repeatable. Default: average.")
    ] = None,
    annotations: FilmAnnotations = None,
    features: FilmFeatureFiles = None,
    without: WithoutModality = None,
    tr: Annotated[float | None, typer.Option(help="Seconds per volume; default: the model's TR.")] = None,
    start: FilmStart = 0.0,
    scan_lengths: ScanLengths = "",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Predict responses to a new film: series in the study's format with BIDS names and sidecars.

    python -m giblet_train predict model.giblet film.mp4 --annotations film.csv -o predicted
    """
    import json

    from giblet_train.analysis.results import make_output_dir
    from giblet_train.portable.film_features import film_of
    from giblet_train.portable.open_model import open_model
    from giblet_train.portable.predict import predict_to_folder

    folder = make_output_dir(out)
    assert folder is not None
    given_film = film_of(film, annotations, features or (), without or (), start, scan_lengths=scan_lengths)
    written = predict_to_folder(open_model(model, narrate, workdir), given_film, subject or (), tr, folder, narrate)
    lines = [f"{label}  {file}" for label, files in written["files"].items() for file in files]
    print(json.dumps(written) if as_json else "\n".join(lines))


@app.command("new-subject")
def new_subject(
    model: Model,
    bold: Bold,
    film: Annotated[Path, typer.Option(help="The film that the person saw.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the model with the new head; ends with .giblet.")],
    name: Annotated[str, typer.Option(help="Label of the person, letters and digits.")] = "new",
    annotations: FilmAnnotations = None,
    features: FilmFeatureFiles = None,
    without: WithoutModality = None,
    tr: BoldTr = None,
    start: FilmStart = 0.0,
    scan_lengths: ScanLengths = "",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Fit a head for a new person in closed form, from minutes of data; report held-out r.

    The model is written again with the head. The first volume belongs to second --start of the film.

    python -m giblet_train new-subject model.giblet --bold sub-07.nii.gz --film film.mp4 --name 07 -o with07.giblet
    """
    import json

    from giblet_train.portable.film_features import FilmFeatures, film_of
    from giblet_train.portable.inference import Inference
    from giblet_train.portable.measured import read_measured
    from giblet_train.portable.model_file import check_model_path, write_model
    from giblet_train.portable.new_subject import fit_new_subject, label_of, new_subject_facts, new_subject_lines
    from giblet_train.portable.open_model import open_model

    label, path = label_of(name), check_model_path(out)
    opened = open_model(model, narrate, workdir)
    measured = read_measured(opened, bold.expanduser(), tr)
    given_film = film_of(film, annotations, features or (), without or (), start, scan_lengths=scan_lengths)
    fitted = fit_new_subject(Inference.of(opened), FilmFeatures.of(opened, given_film), measured, label, narrate)
    write_model(fitted.model, path)
    narrate(str(path))
    print(json.dumps(new_subject_facts(fitted)) if as_json else "\n".join(new_subject_lines(fitted)))


@app.command("decode")
def decode_film(
    model: Model,
    bold: Bold,
    out: NewFolder,
    subject: Annotated[str | None, typer.Option(help="Head that reads the responses; default: average.")] = None,
    film: Annotated[Path | None, typer.Option(help="The film that was shown, to compare with.")] = None,
    annotations: FilmAnnotations = None,
    tr: BoldTr = None,
    start: FilmStart = 0.0,
    scan_lengths: ScanLengths = "",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the film from one person's responses: pictures, sound, nearest annotations, identification.

    python -m giblet_train decode model.giblet --bold sub-01.nii.gz --subject 1 --film film.mp4 -o decoded
    """
    import json

    from giblet_train.analysis.results import make_output_dir
    from giblet_train.portable.decode import decode, decoded_facts, read_sentences, write_decoded
    from giblet_train.portable.film_features import FilmFeatures, film_of
    from giblet_train.portable.inference import Inference
    from giblet_train.portable.measured import read_measured
    from giblet_train.portable.model_file import default_subject
    from giblet_train.portable.open_model import open_model

    folder = make_output_dir(out)
    assert folder is not None
    opened = open_model(model, narrate, workdir)
    measured = read_measured(opened, bold.expanduser(), tr)
    film_features = None
    if film is not None:
        without = [] if annotations is not None or "text" not in opened.header.features else ["text"]
        given_film = film_of(film, annotations, (), without, start, scan_lengths=scan_lengths)
        film_features = FilmFeatures.of(opened, given_film)
    sentences = read_sentences(annotations, opened.header.tr_s) if film is None else ()
    decoded = decode(Inference.of(opened), measured, subject or default_subject(opened), film_features, sentences)
    lines = write_decoded(decoded, film_features, folder, narrate)
    narrate(str(folder / "index.html"))
    print(json.dumps(decoded_facts(decoded)) if as_json else "\n".join(lines))


@app.command()
def verdict(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: AsJson = False,
    fail_on: Annotated[
        Literal["fail", "at_risk", "on_track"], typer.Option(help="The mildest status that ends with exit code 1.")
    ] = "fail",
) -> None:
    """Check a run's records against its criteria. Exit 1 if one of them has failed."""
    from giblet_train.monitoring.verdict import verdict_lines

    failed, lines = verdict_lines(run_dir, as_json=as_json, fail_on=fail_on)
    print("\n".join(lines))
    if failed:
        sys.exit(FAILED)


@app.command()
def watch(run_dir: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Diagnose a run while it trains, write alerts.jsonl, call watch.notify. Started by the run's supervisor."""
    from giblet_train.monitoring.watcher import watch

    watch(run_dir, narrate)


@app.command()
def prepare(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Build the store of a run if it does not exist. Prints its path, sizes and build time."""
    from giblet_train.data.store.prepare import prepare, read_data_request

    print(prepare(read_data_request(run_or_config, workdir), narrate))


@data_app.command("propose")
def data_propose(
    folder: Annotated[Path, typer.Argument(help="Folder with a film, annotations and scans.")],
    name: Annotated[str, typer.Option(help="Name of the configuration.")],
) -> None:
    """Print a configuration for the study in a folder, with comments on what a person must decide."""
    from giblet_train.data.checks.propose_config import propose_config

    print(propose_config(folder.expanduser().absolute(), name))


@data_app.command("discover")
def data_discover(
    folder: Annotated[Path, typer.Argument(help="Folder with films or sounds and scans; annotations are optional.")],
    write: Annotated[
        Path | None, typer.Option(help="Save a configuration with the table; an existing file is kept.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the configuration; default: from the file.")] = None,
    tr: Annotated[float | None, typer.Option(min=0.02, help="TR in seconds, of scans that state none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Propose the table of runs of a folder, verified by what the brains follow, and report what is unusual in it.

    Exit 1 if a file had to be left out.
    """
    from giblet_train.data.discover.command import discover_text

    failed, text = discover_text(folder, write, name, narrate, as_json=as_json, tr_s=tr)
    print(text)
    if failed:
        sys.exit(FAILED)


@data_app.command("lag")
def data_lag(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Print the lag of each brain behind the film in TRs, overall and by thirds. Exit 1 if the thirds disagree."""
    from giblet_train.data.checks.report import lag_report
    from giblet_train.data.store.prepare import read_data_request

    failed, text = lag_report(read_data_request(run_or_config, workdir), narrate)
    print(text)
    if failed:
        sys.exit(FAILED)


@data_app.command("show")
def data_show(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Print the table of runs, also of a configuration without one: who saw what when, and the rows it leads to."""
    from giblet_train.data.store.prepare import read_data_request
    from giblet_train.data.store.show import show_table

    print(show_table(read_data_request(run_or_config, workdir), narrate))


@data_app.command("check")
def data_check(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures to this HTML file.")] = None,
) -> None:
    """Find data mistakes before training: files, clocks, scales, annotations, subjects. Exit 1 on an error."""
    from giblet_train.data.checks.report import check_report
    from giblet_train.data.store.prepare import read_data_request

    failed, text = check_report(
        read_data_request(run_or_config, workdir), narrate, as_json=as_json, html=html and html.expanduser()
    )
    print(text)
    if failed:
        sys.exit(FAILED)


@data_app.command("files", hidden=True)
def data_files(workdir: Workdir = None) -> None:
    """Check that the files of the configuration on stdin exist. Prints a JSON object; reads no file."""
    import json

    from giblet_train.data.checks.presence import file_report
    from giblet_train.schema.config_loader import from_mapping
    from giblet_train.schema.yaml_io import load_text

    config = from_mapping(load_text(sys.stdin.read(), "standard input"), "standard input").config
    print(json.dumps(file_report(config, (workdir or Path("~/giblet")).expanduser().absolute())))


@data_app.command("diagnose")
def data_diagnose(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of trial steps.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check the data and train a few trial steps: what each loss starts at, raw and normalised, and whether it falls.

    Exit code 1 on an error. The trained weights are discarded.
    """
    from giblet_train.analysis.rehearse_training import diagnose
    from giblet_train.data.store.prepare import read_data_request
    from giblet_train.training.load_split import load_split

    failed, text = diagnose(read_data_request(run_or_config, workdir), load_split, steps, narrate, as_json=as_json)
    print(text)
    if failed:
        sys.exit(FAILED)


@app.command("gpu-check")
def gpu_check() -> None:
    """Check that training on this machine's GPU is correct, and print one table. Exit 1 if a line fails.

    Without a GPU it says which lines could not run, and runs the others on the CPU.
    """
    from giblet_train.analysis.gpu_check import check_gpu, table

    lines = check_gpu(narrate)
    print(table(lines))
    if any(line.status == "fail" for line in lines):
        sys.exit(FAILED)


def narrate(sentence: str, fraction: float | None = None) -> None:
    """Print a progress message to stderr, with the finished fraction if it is known."""
    print(sentence if fraction is None else f"[{fraction:4.0%}] {sentence}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line. Exit codes are those of `schema.errors`."""
    try:
        app()
    except GibletError as error:
        print(f"giblet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
