"""Commands that evaluate finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.analysis.ensemble import lines_of, report, score_folds
from giblet_train.analysis.evaluation_folder import evaluate_into
from giblet_train.analysis.lesions import lesion_lines, lesion_study
from giblet_train.analysis.load_run import load_run
from giblet_train.analysis.reconstruct import format_reconstruction, reconstruct
from giblet_train.analysis.results import output_dir, write_results
from giblet_train.cli.arguments import AsJson, Out, Role, RunWithCheckpoint, Workdir, report_progress
from giblet_train.distributed.local_queue import train_missing_members
from giblet_train.training.load_split import load_split


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

    \b
    python -m giblet_train evaluate ~/giblet/runs/demo-20261125-101500-3f2a --json
    """
    with output_dir(out) as folder:
        run = load_run(run_dir, role, load_split, report_progress, workdir)
        figures, lines = evaluate_into(run, folder, report_progress)
        print(write_results("evaluation", figures, lines, None, as_json))


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

    \b
    python -m giblet_train ensemble ~/giblet/runs/demo-*            # existing runs
    python -m giblet_train ensemble RUN_DIR --seeds 5 --all-folds --jobs 8   # trains the missing runs first
    """
    with output_dir(out) as folder:
        members = train_missing_members(run_dirs, seeds, all_folds, jobs, report_progress)
        figures = report(score_folds(members, role, load_split, report_progress))
        print(write_results("ensemble", figures, lines_of(figures), folder, as_json))


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

    \b
    python -m giblet_train lesion RUN_DIR                                    # every region of the demo study
    python -m giblet_train lesion RUN_DIR --region early_visual+higher_visual --mode silence
    python -m giblet_train lesion RUN_DIR --atlas parcels.nii.gz --region 17 --region 18 --json
    """
    with output_dir(out) as folder:
        run = load_run(run_dir, role, load_split, report_progress, workdir)
        study = lesion_study(run, run.parcels(region or (), atlas, mask), source, mode, draws, report_progress)
        print(write_results("lesion", study, lesion_lines(study), folder, as_json))


def rebuild(
    run_dir: RunWithCheckpoint,
    out: Annotated[Path, typer.Argument(help="New folder: index.html, frames.png, .wav files, words.json.")],
    role: Role = "best",
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Reconstruct the held-out film from measured and predicted brains: pictures, sound and nearest annotations.

    \b
    python -m giblet_train rebuild ~/giblet/runs/demo-20261125-101500-3f2a rebuilt && open rebuilt/index.html
    """
    with output_dir(out) as folder:
        assert folder is not None
        words = reconstruct(load_run(run_dir, role, load_split, report_progress, workdir), folder, report_progress)
        text = write_results("words", words, format_reconstruction(words), folder, as_json)
        print(text if as_json else f"{folder / 'index.html'}\n{text}")
