"""The engine's command line: `python -m giblet_train COMMAND`, thin functions over modules imported when asked for.

stdout is data, stderr is narration. A user's mistake ends in its sentence and exit code, never in a traceback.
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
data_app = typer.Typer(name="data", help="Look at a study before training on it.", no_args_is_help=True)
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
    Path | None, typer.Option(help="Where stores and studies lie; a run's own, or ~/giblet for anything else.")
]
Out = Annotated[Path | None, typer.Option(help="Keep the figures here, too, as JSON and as text: a new folder.")]


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder of the study; made if missing, left alone if finished.")],
    size: Annotated[
        Literal["tiny", "small", "full", "scale"],
        typer.Option(help="tiny: unit tests; small: the demo; full: 17 subjects at 3 mm; scale: 920 TRs."),
    ] = "small",
    seed: Annotated[int, typer.Option(min=0, help="Same seed and film, same bytes.")] = 0,
    film: Annotated[
        Path | None, typer.Option(help="Another film; a .csv of its name beside it describes its shots.")
    ] = None,
    subjects: Annotated[int | None, typer.Option(min=1, help="How many subjects; the size's own if not given.")] = None,
) -> None:
    """Make the demo study: a real film, and brains simulated from it with known truth. Prints the study's facts."""
    from giblet_train.data.simulation.demo_study import format_json, simulate_study

    facts = simulate_study(out, size, seed=seed, film=film, n_subjects=subjects, progress=narrate)
    print(format_json(facts).decode(), end="")


@app.command()
def train(run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")]) -> None:
    """Train as RUN_DIR/config.yaml says, alone or under torchrun. Exit 0 done or stopped, 75 terminated, 1 failed."""
    from giblet_train.training.load_split import load_split
    from giblet_train.training.process import train_with_error_file

    sys.exit(train_with_error_file(run_dir, load_split))


@app.command()
def drill(
    fault: Annotated[str, typer.Argument(help="One of those that `giblet demo --help` lists.")],
    run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")],
) -> None:
    """Train as `train` does, with a fault that really happens: what `giblet demo FAULT` starts."""
    from giblet_train.training.fault_injection import train_with_fault
    from giblet_train.training.load_split import load_split

    sys.exit(train_with_fault(fault, run_dir, load_split))


@app.command()
def join(run_dir: Annotated[Path, typer.Argument(help="Run directory whose run.json names several nodes.")]) -> None:
    """Train this node's part of a run over several nodes: meet the others, start torchrun, end with them."""
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
    """Judge a run's checkpoint on the test block of its fold; the run stays as it is.

    With --out also r.nii.gz, the held-out r of each voxel.

    python -m giblet_train evaluate ~/giblet/runs/demo-20261125-101500-3f2a --json
    """
    from giblet_train.analysis.evaluate_run import MAP, evaluate_checkpoint, evaluation_lines
    from giblet_train.analysis.load_run import load_run
    from giblet_train.analysis.results import make_output_dir, write_results
    from giblet_train.training.load_split import load_split

    folder = make_output_dir(out)
    run = load_run(run_dir, role, load_split, narrate, workdir)
    figures = evaluate_checkpoint(run, narrate, folder and folder / MAP)
    print(write_results("evaluation", figures, evaluation_lines(figures), folder, as_json))


@app.command()
def ensemble(
    run_dirs: Annotated[list[Path], typer.Argument(help="Runs that differ by seed, fold and validation block alone.")],
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Train so many seeds of the run first, validation blocks in turn; those given count."),
    ] = 1,
    all_folds: Annotated[bool, typer.Option("--all-folds", help="Train every fold of the run first.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; each takes a GPU where there are some.")] = 1,
    role: Role = "best",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Average runs fold by fold, beside their members, ridge and pooled ridge.

    Members that hold out other validation blocks learn, between them, from every TR that is not tested on.

    python -m giblet_train ensemble ~/giblet/runs/demo-*            # runs that are there

    python -m giblet_train ensemble RUN_DIR --seeds 5 --all-folds --jobs 8   # trains the others first
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
        list[str] | None, typer.Option(help="A region, or several as a+b; may be repeated. All if not given.")
    ] = None,
    atlas: Annotated[
        Path | None, typer.Option(help="NIfTI with a whole number per region, in place of the truth.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="NIfTI whose non-zero voxels are one more region.")] = None,
    mode: Annotated[
        Literal["silence", "missing"],
        typer.Option(help="silence: responses are 0, as damage feels; missing: the readout knows, too."),
    ] = "missing",
    source: Annotated[
        Literal["measured", "predicted"], typer.Option(help="Brains to rebuild the film from.")
    ] = "measured",
    draws: Annotated[int, typer.Option(min=20, help="Random voxel sets beside each lesion.")] = 200,
    role: Role = "best",
    out: Out = None,
    workdir: Workdir = None,
    as_json: AsJson = False,
) -> None:
    """Rebuild the film without each region's voxels, beside random voxel sets of the same size.

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
    """Show the held-out film as measured and predicted brains show it: pictures, sound and nearest annotations.

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


@app.command()
def verdict(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: AsJson = False,
    fail_on: Annotated[
        Literal["fail", "at_risk", "on_track"], typer.Option(help="What exit code 1 begins with.")
    ] = "fail",
) -> None:
    """Hold a run's records against its criteria. Exit 1 when one of them has failed."""
    from giblet_train.monitoring.verdict import verdict_lines

    failed, lines = verdict_lines(run_dir, as_json=as_json, fail_on=fail_on)
    print("\n".join(lines))
    if failed:
        sys.exit(FAILED)


@app.command()
def watch(run_dir: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Judge a run as it goes on, write alerts.jsonl, call watch.notify. Its supervisor starts it."""
    from giblet_train.monitoring.watcher import watch

    watch(run_dir, narrate)


@app.command()
def prepare(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Build the store that a run needs, if it does not exist. Prints its path, its sizes and the time."""
    from giblet_train.data.store.prepare import prepare, read_data_request

    print(prepare(read_data_request(run_or_config, workdir), narrate))


@data_app.command("lag")
def data_lag(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """By how many TRs each brain follows the film, in all and in thirds. Exit 1 when the thirds disagree."""
    from giblet_train.data.checks.report import lag_report
    from giblet_train.data.store.prepare import read_data_request

    failed, text = lag_report(read_data_request(run_or_config, workdir), narrate)
    print(text)
    if failed:
        sys.exit(FAILED)


@data_app.command("check")
def data_check(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures here, as one page.")] = None,
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


@data_app.command("diagnose")
def data_diagnose(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    steps: Annotated[int, typer.Option(min=1, help="How many steps are rehearsed.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """The check with the network: what each loss begins at, raw and normalised, and whether it falls.

    Exit code 1 on an error. A few steps are rehearsed in memory and thrown away.
    """
    from giblet_train.analysis.rehearse_training import diagnose
    from giblet_train.data.store.prepare import read_data_request
    from giblet_train.training.load_split import load_split

    failed, text = diagnose(read_data_request(run_or_config, workdir), load_split, steps, narrate, as_json=as_json)
    print(text)
    if failed:
        sys.exit(FAILED)


def narrate(sentence: str, fraction: float | None = None) -> None:
    """Say on stderr what is being done, with how much of it is finished where that is known."""
    print(sentence if fraction is None else f"[{fraction:4.0%}] {sentence}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; the process ends with the exit code of `schema.errors`."""
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
