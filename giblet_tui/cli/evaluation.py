"""`giblet evaluate`, `lesion`, `rebuild`, `ensemble`, `publish`: use runs on their node, copy the results."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from giblet_train.schema.errors import FAILED, INTERRUPTED, ConfigError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import nodes_and_runs, run_ids
from giblet_tui.cli.console import check_parent, confirm, print_data, print_status, show_json
from giblet_tui.cli.engine_here import run_here
from giblet_tui.cli.parameters import Argument, Exit, Option
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import JobResult
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.control import cleanup
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run
from giblet_tui.monitor.find_run import LAST
from giblet_tui.results import remote_evaluation
from giblet_tui.results.pull import ASK_ABOVE_BYTES
from giblet_tui.results.remote_evaluation import EvaluationJob, EvaluationRequest, Verb

Words = Annotated[
    list[str],
    Argument(
        metavar="[NODE] RUN", help="A run, or its node and the run.",
        autocompletion=nodes_and_runs,
    ),
]  # fmt: skip
Last = Annotated[bool, Option("--last", help="Use the newest checkpoint instead of the best.")]
Gpu = Annotated[str | None, Option(metavar="INDEX|none", help="A GPU, or none for the CPU; default: any free GPU.")]
To = Annotated[Path | None, Option(help="Local folder for the files; default: in ./<run id>.")]
End = Annotated[bool, Option("--end", help="End this evaluation on the node and remove its files.")]
Force = Annotated[bool, Option("--force", help="Start even if memory may not suffice.")]
Yes = Annotated[bool, Option("--yes", help="Copy more than 100 MB without asking.")]

MODEL_SUFFIX = ".giblet"


@dataclass(frozen=True)
class _Options:
    """Options that all of these commands share."""

    to: Path | None
    end: bool
    force: bool
    yes: bool
    json: bool


@command(
    app,
    "evaluate",
    "giblet evaluate @last",
    "giblet evaluate tensor01 demo-2026 --last --to figures",
    "giblet evaluate @last --json | jq .encoding.r_responsive",
)
def evaluate(
    words: Words,
    last: Last = False,
    gpu: Gpu = None,
    to: To = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Evaluate a run's checkpoint on held-out data: encoding, reconstruction, baselines; r of each voxel as a map.

    The evaluation runs on the run's node, in the environment that trained it, in the background, and uses no GPU that
    is in use. A lost connection or Ctrl-C does not end it: the same command waits for it again and copies the result.
    """
    _run_evaluation(words, _build_request("evaluate", last, gpu), "evaluation", _Options(to, end, force, yes, json))


@command(
    app,
    "lesion",
    "giblet lesion @last",
    "giblet lesion tensor01 demo-2026 --region early_visual+higher_visual --mode silence",
    "giblet lesion @last --atlas parcels.nii.gz --region 17 --json",
)
def lesion(
    words: Words,
    region: Annotated[list[str] | None, Option(help="A region, or several as a+b; repeatable. Default: all.")] = None,
    atlas: Annotated[Path | None, Option(help="Local NIfTI with integer labels; names in a .tsv next to it.")] = None,
    mask: Annotated[Path | None, Option(help="Local NIfTI whose non-zero voxels are one more region.")] = None,
    mode: Annotated[
        Literal["silence", "missing"],
        Option(help="silence: responses are 0; missing: the decoder also knows which."),
    ] = "missing",
    source: Annotated[
        Literal["measured", "predicted"], Option(help="Brains from which the film is reconstructed.")
    ] = "measured",
    draws: Annotated[int, Option(min=20, help="Random voxel sets compared with each lesion.")] = 200,
    last: Last = False,
    gpu: Gpu = None,
    to: To = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Reconstruct the film without the voxels of each region, compared with random voxel sets of the same size.

    It runs on the node, in the background, as `giblet evaluate` does; the same command waits for it again.
    """
    options = [word for name in region or () for word in ("--region", name)]
    options += ["--mode", mode, "--source", source, "--draws", str(draws)]
    request = _build_request("lesion", last, gpu, options, {"--atlas": atlas, "--mask": mask})
    _run_evaluation(words, request, "lesion", _Options(to, end, force, yes, json))


@command(app, "rebuild", "giblet rebuild @last", "giblet rebuild tensor01 demo-2026 --to rebuilt")
def rebuild(
    words: Words,
    last: Last = False,
    gpu: Gpu = None,
    to: To = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Reconstruct the held-out film from measured and predicted brains: a page with pictures, sound and annotations.

    It runs on the node, in the background, as `giblet evaluate` does; the same command waits for it again.
    """
    _run_evaluation(words, _build_request("rebuild", last, gpu), "words", _Options(to, end, force, yes, json))


@command(app, "ensemble", "giblet ensemble demo-20261125-1 demo-20261125-2", "giblet ensemble RUN RUN RUN --json")
def ensemble(
    names: Annotated[
        list[str],
        Argument(
            metavar="RUN...",
            help="Runs of one node that differ only in seed, split.fold and split.validation_block.",
            autocompletion=run_ids,
        ),
    ],
    last: Last = False,
    gpu: Gpu = None,
    to: To = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Average the predictions of several runs and compare them with single runs, ridge and pooled ridge, fold by fold.

    To train the runs: giblet launch NODE CONFIG --ensemble 5 --all-folds.
    It runs on the node, in the background, as `giblet evaluate` does; the same command waits for it again.
    """
    runs = [find_run.locate(name, print_status) for name in names]
    if len({node.name for node, _ in runs}) > 1:
        where = ", ".join(sorted({node.name for node, _ in runs}))
        raise ConfigError(f"These runs are on {where}; the runs of an ensemble must be on one node.", "giblet ps -a")
    run_ids_there = [run_id for _, run_id in runs]
    request = _build_request("ensemble", last, gpu)
    _evaluate(runs[0][0], run_ids_there, request, "ensemble", _Options(to, end, force, yes, json))


@command(
    app,
    "publish",
    "giblet publish @last -o model.giblet --licence CC-BY-4.0",
    "giblet publish tensor01 demo-2026 -o model.giblet --subjects 1,2",
    "giblet publish ./demo-20261125-101500-3f2a -o model.giblet",
)
def publish(
    words: Words,
    out: Annotated[Path, Option("-o", "--out", help="File to write; its name ends with .giblet.")],
    subjects: Annotated[
        str, Option(metavar="1,2", help="Subjects whose heads are included; default: only the average subject.")
    ] = "",
    licence: Annotated[str | None, Option(help="Licence of the model, for its card.")] = None,
    last: Last = False,
    gpu: Gpu = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Write a model to one file that opens without study, store or node, and print its card.

    The file has weights, feature scales and geometry, but no training data. Heads of single persons describe their
    brains; they are included only if --subjects names them. The run is a local run directory, or on a node, where it
    is read as `giblet evaluate` does.
    """
    out = out.expanduser()
    if out.suffix != MODEL_SUFFIX:
        raise ConfigError(f"{out} does not end with {MODEL_SUFFIX}.", f"giblet publish RUN -o {out}{MODEL_SUFFIX}")
    check_parent(out)
    options = [*(["--subjects", subjects] if subjects else []), *(["--licence", licence] if licence else [])]
    if len(words) == 1 and (Path(words[0]).expanduser() / "config.yaml").is_file():
        argv = ["publish", words[0], "-o", str(out), "--role", "last" if last else "best", *options]
        run_here(argv, json, paths=(1, 3))
        return
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        request = _build_request("publish", last, gpu, options)
        _run_evaluation(words, request, "publish", _Options(Path(folder) / "out", end, force, yes, json))
        for path in (Path(folder) / "out").glob(f"*{MODEL_SUFFIX}"):
            path.replace(out)
            print_status(str(out))


def _build_request(
    kind: Verb,
    last: bool,
    gpu: str | None,
    options: Sequence[str] = (),
    inputs: dict[str, Path | None] | None = None,
) -> EvaluationRequest:
    if gpu is not None and gpu != "none" and not gpu.isdigit():
        raise ConfigError(f"--gpu {gpu} is neither the index of a GPU nor none.", "Use --gpu 0, or --gpu none.")
    device = None if gpu is None else "cpu" if gpu == "none" else int(gpu)
    files = {option: path.expanduser() for option, path in (inputs or {}).items() if path is not None}
    role = "last" if last else "best"
    return EvaluationRequest(verb=kind, role=role, options=tuple(options), inputs=files, gpu=device)


def _run_evaluation(words: Sequence[str], request: EvaluationRequest, name: str, options: _Options) -> None:
    if len(words) > 2:
        raise ConfigError(
            f"{len(words)} arguments are given, but only a node and a run are expected.", "giblet evaluate [NODE] RUN"
        )
    if len(words) == 2:
        node = nodes.resolve(words[0])
        run_id = find_run.locate_on(node, words[1])
    else:
        node, run_id = find_run.locate(words[0], print_status)
    _evaluate(node, [run_id], request, name, options)


def _evaluate(
    node: Node, run_ids_there: Sequence[str], request: EvaluationRequest, name: str, options: _Options
) -> None:
    """Run the evaluation on the node, copy its files, print its figures, which are in the file `name`."""
    if options.to:
        check_parent(options.to)
    snapshots = [find_run.fresh_with_node(node, run_id) for run_id in run_ids_there]
    runs = [run for run, _ in snapshots]
    with connect(node) as connection:
        engine = remote_evaluation.engine_of(runs[0], node, connection, print_status)
    job = remote_evaluation.plan(request, runs, node, engine)
    if options.end:
        outcome = "was ended, its files were removed" if remote_evaluation.cancel(job) else "was not started"
        print_status(f"{job.name} {outcome} on {node.name}.")
        return
    for run in runs:
        print_status(
            remote_evaluation.checkpoint_sentence(run, remote_evaluation.checkpoint(run, request.role), request.role)
        )
    if not options.force:
        remote_evaluation.refuse_without_memory(*snapshots[0])
    with _detach_on_interrupt(job):
        result = remote_evaluation.wait_for(job, print_status)
        if result.code != 0:
            raise remote_evaluation.failure(job, result.code) or Exit(result.code or FAILED)
        target = options.to.expanduser() if options.to else Path(job.run_id) / job.name
        _download_results(job, result, target, options.yes)
    _show(target, name, options.json)


def _download_results(job: EvaluationJob, result: JobResult, target: Path, yes: bool) -> None:
    size = cleanup.format_bytes(result.size)
    if result.size > ASK_ABOVE_BYTES and not yes and not confirm(f"The result has {size}. Copy it?"):
        raise PreflightRefused(f"The result has {size} and stays on {job.node.name}.", "Add --yes.")
    try:
        paths = remote_evaluation.download(job, result, target, print_status)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}.", "Choose another --to.") from None
    if job.name.startswith("publish"):  # the folder is temporary, and the file's own name is printed later
        return
    print_status(f"{_format_names(paths)}, {size}, in {target}")
    for path in (path for path in paths if path.suffix == ".html"):
        print_status(f"page: {path}")


def _format_names(paths: Sequence[Path]) -> str:
    """Return the names of the files; of more than five only their number."""
    return ", ".join(path.name for path in paths) if len(paths) <= 5 else f"{len(paths)} files"


def _show(folder: Path, name: str, json: bool) -> None:
    text = (folder / f"{name}.{'json' if json else 'txt'}").read_text(encoding="utf-8", errors="replace")
    if json:
        show_json(sanitize_value(jsonlib.loads(text)))
    else:
        print_data("\n".join(sanitize(line) for line in text.rstrip("\n").split("\n")))


@contextmanager
def _detach_on_interrupt(job: EvaluationJob) -> Iterator[None]:
    """Make Ctrl-C leave the evaluation running and print how to return to it."""
    try:
        yield
    except KeyboardInterrupt:
        command_line = shlex.join(["giblet", *(job.run_id if word == LAST else word for word in sys.argv[1:])])
        print_status(
            f"\nThe evaluation continues on {job.node.name} without this terminal."
            f"\nnext:\n  {command_line}\n  {command_line} --end"
        )
        raise Exit(INTERRUPTED) from None
