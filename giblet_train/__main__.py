"""The engine's command line: `python -m giblet_train COMMAND`, thin functions over modules imported when asked for.

stdout is data, stderr is narration. A user's mistake ends in its sentence and exit code, never in a traceback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.contract.errors import FAILED, GibletError

app = typer.Typer(
    name="python -m giblet_train",
    help="giblet's training engine: make a demo study, prepare data, train, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(name="data", help="Look at a study before training on it.", no_args_is_help=True)
app.add_typer(data_app)

RunOrConfig = Annotated[
    Path, typer.Argument(help="A run directory, a configuration file, or - for one on standard input.")
]
Workdir = Annotated[
    Path | None, typer.Option(help="Where stores and studies lie; a run's own, or ~/giblet for a configuration.")
]


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
    from giblet_train.data.simulate import make_study, pretty

    facts = make_study(out, size, seed=seed, film=film, n_subjects=subjects, progress=narrate)
    print(pretty(facts).decode(), end="")


@app.command()
def train(run_dir: Annotated[Path, typer.Argument(help="Run directory with a resolved config.yaml.")]) -> None:
    """Train as RUN_DIR/config.yaml says, alone or under torchrun. Exit 0 done or stopped, 75 terminated, 1 failed."""
    from giblet_train.loading import load_split
    from giblet_train.trainer import train_recorded

    sys.exit(train_recorded(run_dir, load_split))


@app.command()
def evaluate(
    run_dir: Annotated[Path, typer.Argument(help="Run directory with at least one checkpoint.")],
    role: Annotated[Literal["best", "last"], typer.Option(help="Which checkpoint to judge.")] = "best",
    map_path: Annotated[Path | None, typer.Option("--map", help="Write each voxel's held-out r as NIfTI here.")] = None,
) -> None:
    """Judge a run's checkpoint on the test block of its fold. Prints the figures as JSON; the run stays as it is."""
    from giblet_train.judge import judge
    from giblet_train.loading import load_split

    print(judge(run_dir, role, load_split, narrate, map_path).decode())


@app.command()
def verdict(
    run_dir: Annotated[Path, typer.Argument(help="Run directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Hold a run's records against its criteria. Exit 1 when one of them has failed."""
    from giblet_train.verdict import verdict_lines

    failed, lines = verdict_lines(run_dir, as_json=as_json)
    print("\n".join(lines))
    if failed:
        sys.exit(FAILED)


@app.command()
def watch(run_dir: Annotated[Path, typer.Argument(help="Run directory.")]) -> None:
    """Judge a run as it goes on, write alerts.jsonl, call watch.notify. Its supervisor starts it."""
    from giblet_train.watcher import watch

    watch(run_dir, narrate)


@app.command()
def prepare(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """Build the store that a run needs, if it does not exist. Prints its path, its sizes and the time."""
    from giblet_train.data.prepared import prepare, read_request

    print(prepare(read_request(run_or_config, workdir), narrate))


@data_app.command("lag")
def data_lag(run_or_config: RunOrConfig, workdir: Workdir = None) -> None:
    """By how many TRs each brain follows the film, in all and in thirds. Exit 1 when the thirds disagree."""
    from giblet_train.data.prepared import read_request
    from giblet_train.data.report import lag_report

    failed, text = lag_report(read_request(run_or_config, workdir), narrate)
    print(text)
    if failed:
        sys.exit(FAILED)


@data_app.command("check")
def data_check(
    run_or_config: RunOrConfig,
    workdir: Workdir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report with pictures here, as one page.")] = None,
) -> None:
    """Find data mistakes before training: files, clocks, scales, annotations, subjects. Exit 1 on an error."""
    from giblet_train.data.prepared import read_request
    from giblet_train.data.report import check_report

    failed, text = check_report(
        read_request(run_or_config, workdir), narrate, as_json=as_json, html=html and html.expanduser()
    )
    print(text)
    if failed:
        sys.exit(FAILED)


def narrate(sentence: str, fraction: float | None = None) -> None:
    """Say on stderr what is being done, with how much of it is finished where that is known."""
    print(sentence if fraction is None else f"[{fraction:4.0%}] {sentence}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; the process ends with the exit code of `contract.errors`."""
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
