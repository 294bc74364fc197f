"""`giblet evaluate`, `lesion`, `rebuild`, `ensemble`: what a run has learnt, looked at on its node, brought here."""

from __future__ import annotations

import json as jsonlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from giblet_train.schema.errors import FAILED, INTERRUPTED, ConfigError, PreflightRefused
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json
from giblet_tui.cli.completion import nodes_and_runs, run_ids
from giblet_tui.cli.console import confirm, print_data, print_status, show_json
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize, sanitize_value
from giblet_tui.control import cleanup
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Node
from giblet_tui.monitor import find_run
from giblet_tui.monitor.find_run import LAST
from giblet_tui.results import remote_evaluation
from giblet_tui.results.pull import ASK_ABOVE_BYTES
from giblet_tui.results.remote_evaluation import EvaluationJob, EvaluationRequest, Result

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="[NODE] RUN", help="The beginning of a run's id, or @last; its node may come before.",
        autocompletion=nodes_and_runs,
    ),
]  # fmt: skip
Last = Annotated[bool, typer.Option("--last", help="The newest checkpoint in place of the best one.")]
Gpu = Annotated[str | None, typer.Option(metavar="INDEX|none", help="This one, or the CPU; else any free GPU.")]
To = Annotated[Path | None, typer.Option(help="A folder here for the files; in ./<run id> if not given.")]
End = Annotated[bool, typer.Option("--end", help="End what this very command began on the node, and remove it there.")]
Force = Annotated[bool, typer.Option("--force", help="Although the node's memory may not suffice.")]
Yes = Annotated[bool, typer.Option("--yes", help="Also bring more than 100 MB, without asking.")]


@dataclass(frozen=True)
class _Options:
    """What all of these verbs can be told beside their question."""

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
    """Judge a run's checkpoint on held-out film: predicted brains, film rebuilt, baselines; the voxels' r as a map.

    It is done on the run's node, by the environment that trained it, in the background and without a GPU that is in
    use. A lost link or Ctrl-C does not end it: the same command joins it again, or brings what it has found.
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
    region: Annotated[
        list[str] | None, typer.Option(help="A region, or several as a+b; may be repeated. All if not given.")
    ] = None,
    atlas: Annotated[
        Path | None, typer.Option(help="NIfTI here with a whole number per region; a .tsv beside it names them.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="NIfTI here whose non-zero voxels are one more region.")] = None,
    mode: Annotated[
        Literal["silence", "missing"],
        typer.Option(help="silence: responses are 0, as damage feels; missing: the readout knows, too."),
    ] = "missing",
    source: Annotated[
        Literal["measured", "predicted"], typer.Option(help="Brains to rebuild the film from.")
    ] = "measured",
    draws: Annotated[int, typer.Option(min=20, help="Random voxel sets beside each lesion.")] = 200,
    last: Last = False,
    gpu: Gpu = None,
    to: To = None,
    end: End = False,
    force: Force = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Rebuild the film without each region's voxels, beside random voxel sets of the same size.

    Done as `evaluate` is: on the node, in the background; the same command joins it again.
    """
    options = [word for name in region or () for word in ("--region", name)]
    options += ["--mode", mode, "--source", source, "--draws", str(draws)]
    question = _build_request("lesion", last, gpu, options, {"--atlas": atlas, "--mask": mask})
    _run_evaluation(words, question, "lesion", _Options(to, end, force, yes, json))


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
    """Bring the held-out film as measured and predicted brains show it: a page with pictures, sound and annotations.

    Done as `evaluate` is: on the node, in the background; the same command joins it again.
    """
    _run_evaluation(words, _build_request("rebuild", last, gpu), "words", _Options(to, end, force, yes, json))


@command(app, "ensemble", "giblet ensemble demo-20261125-1 demo-20261125-2", "giblet ensemble RUN RUN RUN --json")
def ensemble(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs of one node that differ by seed, split.fold and split.validation_block alone.",
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
    """Average runs fold by fold, beside their members, ridge and pooled ridge.

    The runs are there already: giblet launch NODE CONFIG --ensemble 5 --all-folds trains them.
    Done as `evaluate` is: on the node, in the background; the same command joins it again.
    """
    found = [find_run.locate(name, print_status) for name in names]
    if len({node.name for node, _ in found}) > 1:
        where = ", ".join(sorted({node.name for node, _ in found}))
        raise ConfigError(f"These runs are on {where}; an ensemble's are read on one node.", "giblet ps -a")
    run_ids_there = [run_id for _, run_id in found]
    question = _build_request("ensemble", last, gpu)
    _answer(found[0][0], run_ids_there, question, "ensemble", _Options(to, end, force, yes, json))


def _build_request(
    kind: Literal["evaluate", "lesion", "rebuild", "ensemble"],
    last: bool,
    gpu: str | None,
    options: Sequence[str] = (),
    inputs: dict[str, Path | None] | None = None,
) -> EvaluationRequest:
    if gpu is not None and gpu != "none" and not gpu.isdigit():
        raise ConfigError(f"--gpu {gpu}: neither the index of a GPU nor none.", "--gpu 0, or --gpu none")
    device = None if gpu is None else "cpu" if gpu == "none" else int(gpu)
    files = {option: path.expanduser() for option, path in (inputs or {}).items() if path is not None}
    role = "last" if last else "best"
    return EvaluationRequest(verb=kind, role=role, options=tuple(options), inputs=files, gpu=device)


def _run_evaluation(words: Sequence[str], question: EvaluationRequest, name: str, wishes: _Options) -> None:
    if len(words) > 2:
        raise ConfigError(f"{len(words)} words: one run, and its node before it if need be.", "See --help.")
    if len(words) == 2:
        node = nodes.resolve(words[0])
        run_id = find_run.locate_on(node, words[1])
    else:
        node, run_id = find_run.locate(words[0], print_status)
    _answer(node, [run_id], question, name, wishes)


def _answer(node: Node, run_ids_there: Sequence[str], question: EvaluationRequest, name: str, wishes: _Options) -> None:
    """Have the question answered on the node and show what was found. name: of the file with its figures."""
    seen = [find_run.fresh_with_node(node, run_id) for run_id in run_ids_there]
    runs = [run for run, _ in seen]
    with connect(node) as connection:
        engine = remote_evaluation.engine_of(runs[0], node, connection, print_status)
    planned = remote_evaluation.plan(question, runs, node, engine)
    if wishes.end:
        was = remote_evaluation.cancel(planned)
        print_status(
            f"{planned.name} {'is ended, and what it left is removed' if was else 'was never begun'} on {node.name}."
        )
        return
    for run in runs:
        print_status(
            remote_evaluation.checkpoint_sentence(run, remote_evaluation.checkpoint(run, question.role), question.role)
        )
    if not wishes.force:
        remote_evaluation.refuse_without_memory(*seen[0])
    with _detach_on_interrupt(planned):
        result = remote_evaluation.wait_for(planned, print_status)
        if result.code != 0:
            raise remote_evaluation.failure(planned, result.code) or typer.Exit(result.code or FAILED)
        target = wishes.to.expanduser() if wishes.to else Path(planned.run_id) / planned.name
        _bring(planned, result, target, wishes.yes)
    _show(target, name, wishes.json)


def _bring(planned: EvaluationJob, result: Result, target: Path, yes: bool) -> None:
    size = cleanup.format_bytes(result.size)
    if result.size > ASK_ABOVE_BYTES and not yes and not confirm(f"What it made has {size}. Bring it?"):
        raise PreflightRefused(f"What it made has {size}; it stays on {planned.node.name}.", "Add --yes.")
    try:
        paths = remote_evaluation.download(planned, result, target, print_status)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}.", "Choose another --to.") from None
    print_status(f"{size} in {target}: {', '.join(path.name for path in paths)}")
    for path in (path for path in paths if path.suffix == ".html"):
        print_status(f"the page is {path}")


def _show(folder: Path, name: str, json: bool) -> None:
    text = (folder / f"{name}.{'json' if json else 'txt'}").read_text(encoding="utf-8", errors="replace")
    if json:
        show_json(sanitize_value(jsonlib.loads(text)))
    else:
        print_data("\n".join(sanitize(line) for line in text.rstrip("\n").split("\n")))


@contextmanager
def _detach_on_interrupt(planned: EvaluationJob) -> Iterator[None]:
    """Ctrl-C in here leaves it at work on its node, and says how to come back to it."""
    try:
        yield
    except KeyboardInterrupt:
        again = shlex.join(["giblet", *(planned.run_id if word == LAST else word for word in sys.argv[1:])])
        print_status(f"\nIt goes on on {planned.node.name} without this terminal.\nnext:\n  {again}\n  {again} --end")
        raise typer.Exit(INTERRUPTED) from None
