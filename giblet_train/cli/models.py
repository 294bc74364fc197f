"""Commands for published models: write one, predict with it, fit it to a person, reconstruct a film."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from giblet_train.analysis.results import check_output_dir
from giblet_train.cli.arguments import (
    AsJson,
    Bold,
    BoldTr,
    FilmAnnotations,
    FilmFeatureFiles,
    FilmFile,
    FilmStart,
    Model,
    NewFolder,
    Role,
    RunWithCheckpoint,
    ScanLengths,
    Subjects,
    WithoutModality,
    Workdir,
    report_progress,
)
from giblet_train.portable.decode import decode as decode_film
from giblet_train.portable.decode import decoded_facts, known_film, read_sentences, write_decoded
from giblet_train.portable.film_features import FilmFeatures, film_of
from giblet_train.portable.inference import Inference
from giblet_train.portable.measured import length_notes, read_measured
from giblet_train.portable.model_file import check_model_path, default_subject, write_model
from giblet_train.portable.new_subject import fit_new_subject, label_of, new_subject_facts, new_subject_lines
from giblet_train.portable.open_model import card_facts, open_model, publish_run
from giblet_train.portable.predict import predict_to_folder
from giblet_train.portable.publish import model_card
from giblet_train.schema.errors import ConfigError


def publish(
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

    \b
    python -m giblet_train publish RUN_DIR -o model.giblet --licence CC-BY-4.0
    """
    labels = [s for s in subjects.split(",") if s]
    path, model = publish_run(run_dir, role, labels, licence, out, report_progress, workdir)
    report_progress(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB")
    print(json.dumps(card_facts(model)) if as_json else "\n".join(model_card(model)))


def predict(
    model: Model,
    film: FilmFile,
    out: NewFolder,
    subject: Annotated[
        list[str] | None, typer.Option(help="A head of the model, such as 1; repeatable. Default: average.")
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

    \b
    python -m giblet_train predict model.giblet film.mp4 --annotations film.csv -o predicted
    """
    folder = check_output_dir(out)
    given_film = film_of(film, annotations, features or (), without or (), start, scan_lengths=scan_lengths)
    paths = predict_to_folder(
        open_model(model, report_progress, workdir), given_film, subject or (), tr, folder, report_progress
    )
    lines = [f"{label}  {file}" for label, files in paths["files"].items() for file in files]
    print(json.dumps(paths) if as_json else "\n".join(lines))


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

    \b
    python -m giblet_train new-subject model.giblet --bold sub-07.nii.gz --film film.mp4 --name 07 -o with07.giblet
    """
    label, path = label_of(name), check_model_path(out)
    published_model = open_model(model, report_progress, workdir)
    measured = read_measured(published_model, bold.expanduser(), tr)
    for note in measured.notes:
        report_progress(note)
    given_film = film_of(film, annotations, features or (), without or (), start, scan_lengths=scan_lengths)
    film_features = FilmFeatures.of(published_model, given_film)
    for note in length_notes(measured, film_features.seconds):
        report_progress(note)
    fitted = fit_new_subject(Inference.of(published_model), film_features, measured, label, report_progress)
    write_model(fitted.model, path)
    report_progress(str(path))
    print(json.dumps(new_subject_facts(fitted)) if as_json else "\n".join(new_subject_lines(fitted)))


def decode(
    model: Model,
    bold: Bold,
    out: NewFolder,
    subject: Annotated[str | None, typer.Option(help="Head that reads the responses; default: average.")] = None,
    film: Annotated[Path | None, typer.Option(help="The film that was shown, to compare with.")] = None,
    annotations: FilmAnnotations = None,
    features: FilmFeatureFiles = None,
    without: WithoutModality = None,
    tr: BoldTr = None,
    start: FilmStart = 0.0,
    scan_lengths: ScanLengths = "",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the film from one person's responses: pictures, sound, nearest annotations, identification.

    \b
    python -m giblet_train decode model.giblet --bold sub-01.nii.gz --subject 1 --film film.mp4 -o decoded
    """
    folder = check_output_dir(out)
    published_model = open_model(model, report_progress, workdir)
    measured = read_measured(published_model, bold.expanduser(), tr)
    for note in measured.notes:
        report_progress(note)
    film_features = None
    if film is None and (features or without):
        raise ConfigError("--features and --without describe a film, and there is no --film.", "Add --film FILM.")
    if film is not None:
        given_film = film_of(film, annotations, features or (), without or (), start, scan_lengths=scan_lengths)
        film_features = known_film(published_model, given_film)
        for note in length_notes(measured, film_features.seconds):
            report_progress(note)
    sentences = read_sentences(annotations, published_model.header.tr_s) if film is None else ()
    decoded = decode_film(
        Inference.of(published_model), measured, subject or default_subject(published_model), film_features, sentences
    )
    lines = write_decoded(decoded, film_features, folder, report_progress)
    report_progress(str(folder / "index.html"))
    print(json.dumps(decoded_facts(decoded)) if as_json else "\n".join(lines))
