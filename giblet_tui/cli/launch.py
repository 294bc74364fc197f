"""`giblet launch`: plan a run, start it on a node, wait for its first real step, print how to continue."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from msgspec import to_builtins
from msgspec.structs import replace as replace_fields

from giblet_train.schema.config import dump, to_mapping
from giblet_train.schema.config_loader import Loaded
from giblet_train.schema.errors import ConfigError, GibletError, RunFailed
from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Json, NodeName, OptionalConfigName, Settings
from giblet_tui.cli.command_options import CommandOptions
from giblet_tui.cli.console import next_commands, print_data, print_status, show_json
from giblet_tui.cli.follow_output import follow_and_print
from giblet_tui.cli.launch_steps import (
    await_first_step,
    build_request,
    config_changes,
    launch_and_print,
    load_config,
    plan_notes,
    plan_only,
    plan_sweep_only,
    start_sweep,
    warnings,
)
from giblet_tui.cli.nodes import print_findings, remember
from giblet_tui.cli.parameters import CommandBehindDashes, Exit, Option
from giblet_tui.inventory import nodes
from giblet_tui.inventory.nodes import Multiplexer, Node
from giblet_tui.launch.ensemble import check_capacity, member_requests
from giblet_tui.launch.plan import LaunchPlan
from giblet_tui.launch.request import LaunchOptions, LaunchRequest, check_options
from giblet_tui.launch.sweep import GRID_EXAMPLE, Cell, fill_placeholders, parse_grid, sweep_requests
from giblet_tui.monitor import find_run
from giblet_tui.reporting import SCHEMA
from giblet_tui.reporting.progress_lines import ProgressPrinter

TIME_LIMIT = r"(\d+-)?\d+(:\d+){0,2}|(?i:unlimited|infinite)"
"""Pattern of a time limit of Slurm."""


@command(
    app,
    "launch",
    "giblet launch tensor01 demo",
    "giblet launch tensor01 test_50epoch_fixed --gpus 6 --note 'z-scored, 6 GPUs'",
    "giblet launch tensor01 demo --set num_epochs=20 --set learning_rate=3e-4 --dry-run",
    "giblet launch tensor01 production_500epoch --resume @last --follow",
    "giblet launch tensor01 test_50epoch_fixed --gpus 6 --when-free",
    "giblet launch tensor01 demo --set learning_rate=1e-4 --replace",
    "giblet launch tensor01,tensor02 production_500epoch --gpus 8",
    "giblet launch tensor01 demo --ensemble 5 --all-folds",
    "giblet launch tensor01 demo --grid learning_rate=1e-4,3e-4 --grid data.normalize_fmri=true,false",
    "giblet launch tensor01 --gpus 2 -- torchrun --nproc-per-node 2 train.py --lr 1e-4",
    "giblet launch tensor01 --cwd '~/old' --name v3 -- python -m lab.train --config configs/v3.yaml",
    "giblet launch cluster production_500epoch --gpus 4 --partition gpu --time 24:00:00",
)
def launch(
    name: NodeName,
    config: OptionalConfigName = None,
    gpus: Annotated[str | None, Option(help="How many GPUs (6), or which (0,1,2; for just one: 3,).")] = None,
    settings: Settings = None,
    note: Annotated[str, Option(help="A note to show next to the run.")] = "",
    session: Annotated[Multiplexer | None, Option(help="Session type; default: the node's preference.")] = None,
    partition: Annotated[str | None, Option(help="Slurm: partition of the job.")] = None,
    time: Annotated[str | None, Option(metavar="[D-]HH:MM:SS", help="Slurm: time limit of the job.")] = None,
    sbatch: Annotated[
        list[str] | None, Option(metavar="KEY=VALUE", help="Slurm: another option of sbatch; repeatable.")
    ] = None,
    resume: Annotated[
        str | None,
        Option(metavar="RUN|STEP", help="Resume from a run, a step of the newest run of this name, or a path."),
    ] = None,
    replace: Annotated[
        bool, Option("--replace", help="Stop live runs of this name on the node, after all checks have passed.")
    ] = False,
    when_free: Annotated[
        bool, Option("--when-free", help="Wait on the node until GPUs are free; `stop` ends the wait.")
    ] = False,
    ensemble: Annotated[
        int | None,
        Option(min=1, max=100, metavar="N", help="Start N runs per fold with different seeds and validation blocks."),
    ] = None,
    all_folds: Annotated[bool, Option("--all-folds", help="Start a run, or N, for each fold.")] = False,
    grid: Annotated[
        list[str] | None,
        Option(metavar="KEY=A,B", help="Start a run for each combination of such values; repeatable."),
    ] = None,
    stop_hopeless: Annotated[
        bool, Option("--stop-hopeless", help="Of a sweep, stop runs that can no longer meet their criteria.")
    ] = False,
    again: Annotated[
        bool, Option("--again", help="Start even if this configuration is already running there.")
    ] = False,
    force: Annotated[
        bool, Option("--force", help="Start even if a GPU is in use or logging out would kill the run.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Check the node and print the plan; start nothing.")] = False,
    follow: Annotated[bool, Option("--follow", help="Print progress until the run ends, then its result.")] = False,
    run_name: Annotated[str | None, Option("--name", help="Name of a command's run; default: its script.")] = None,
    cwd: Annotated[
        str | None,
        Option(
            metavar="DIR",
            help="Start a command in this directory of the node, as it is; default: send the"
            " git repository that you are in.",
        ),
    ] = None,
    untracked: Annotated[
        bool, Option("--untracked", help="Also send files that git neither tracks nor ignores.")
    ] = False,
    push: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Send a file that a command names; repeatable.")
    ] = None,
    env: Annotated[
        list[str] | None, Option("--env", metavar="NAME=VALUE", help="Set a command's variable; repeatable.")
    ] = None,
    log: Annotated[
        str | None, Option(help="File on the node with a command's losses; default: its output, or a search.")
    ] = None,
    json: Json = False,
    words: Annotated[tuple[str, ...] | None, CommandBehindDashes()] = None,
) -> None:
    """Start a run on a node and wait for its first real step, or print why there was none.

    Prints the run's id on stdout. The run continues whatever happens to this terminal. Several nodes, separated by
    commas, share one run: --gpus then counts for each of them, the first one holds the records, and all need the same
    data.

    --ensemble N and --all-folds start several runs. Each waits on the node for its own GPUs, as many as --gpus says;
    `giblet ensemble` then averages them.

    --grid starts a run for each combination of values, all checked first; `giblet sweep` shows them as one table. They
    wait on the node for GPUs of their own; on a CPU, as many train at once as fit.

    Anything after -- is a command to run in place of CONFIG. It gets one free GPU, or what --gpus says (0: none).
    The git repository that you are in is sent as it is now, uncommitted changes included. Losses are read from what
    it prints.
    """
    targets = nodes.resolve_all(name)
    check_options(
        LaunchOptions(
            nodes=tuple(node.name for node in targets),
            when_free=when_free,
            replace=replace,
            resume=resume is not None,
            follow=follow,
            ensemble=bool(ensemble or all_folds),
            command=words is not None,
            sweep=bool(grid),
        )
    )
    cells = parse_grid(grid) if grid else []
    if stop_hopeless and not cells:
        raise ConfigError("--stop-hopeless is for a sweep.", GRID_EXAMPLE)
    own = CommandOptions(run_name, cwd, untracked, tuple(push or ()), tuple(env or ()), log)
    job_options = _sbatch_options(partition, time, sbatch or [])
    common: dict[str, Any] = {"note": note, "session": session, "again": again, "force": force}
    if words is not None and (config is not None or settings):
        raise ConfigError(
            f"{config or '--set'} is for giblet's trainer, and behind -- follows a command of your own.",
            "Leave out one of them.",
        )
    if words is None:
        own.refuse()
    if json and follow:
        raise ConfigError("--json and --follow are given.", "giblet launch ... --json, then giblet wait RUN --json")
    output = _Output(targets, json)

    def load(cell: Cell) -> Loaded:
        own_settings = [*(settings or ()), *(f"{key}={value}" for key, value in cell.items())]
        return load_config(targets[0], config, own_settings, resume)

    def with_options(request: LaunchRequest) -> LaunchRequest:
        return replace_fields(request, when_free=when_free, replace=replace, sbatch=job_options)

    def train(source: Loaded) -> LaunchRequest:
        return with_options(build_request(source.config, gpus=gpus, **common))

    def run_command(cell: Cell) -> LaunchRequest:
        return with_options(own.request(fill_placeholders(words or [], cell), gpus, common))

    if cells:
        requests = sweep_requests(
            cells, run_command if words is not None else lambda cell: train(load(cell)), stop_hopeless=stop_hopeless
        )
        _launch_sweep(targets[0], requests, dry_run, output)
        return
    if words is not None:
        if dry_run:
            _print_command_plan(plan_only(targets, run_command({}))[0], output)
        else:
            _launch(targets, run_command({}), (), follow, output)
        return
    source = load({})
    request = train(source)
    if ensemble or all_folds:
        _launch_ensemble(targets[0], member_requests(request, ensemble or 1, all_folds), source, dry_run, output)
    elif dry_run:
        _print_plans(plan_only(targets, request), source, output)
    else:
        _launch(targets, request, source.notes, follow, output)


class _Output:
    """Prints ids of runs and the plan of a dry run on stdout, or all of it as one JSON object."""

    def __init__(self, targets: Sequence[Node], json: bool) -> None:
        self._nodes, self._json = [node.name for node in targets], json
        self._run_ids: list[str] = []

    def run_id(self, run_id: str) -> None:
        """Print the id of a run that was started, or keep it for the object."""
        self._run_ids.append(run_id)
        if not self._json:
            print_data(run_id)

    def text(self, text: str) -> None:
        """Print a part of the plan of a dry run, which the object contains as facts."""
        if not self._json:
            print_data(text)

    def started(self) -> None:
        """Print the object of a launch; also of one whose run then failed, because the run exists."""
        if self._json and self._run_ids:
            runs = [{"run_id": run_id, "nodes": self._nodes} for run_id in self._run_ids]
            show_json({"schema": SCHEMA, "started": True, "runs": runs})

    def planned(self, plans: Sequence[LaunchPlan], others: Sequence[LaunchRequest] = ()) -> None:
        """Print the object of a dry run; others: runs that differ from the first one by these keys only."""
        if self._json:
            members = [
                {"seed": r.config.seed, "fold": split.fold, "validation_block": split.validation_block}
                for r in others
                for split in [r.config.split]
            ]
            runs = [_plan_json(plan) for plan in plans]
            show_json({"schema": SCHEMA, "started": False, "runs": runs, "further_members": members})
        print_status(NOTHING_STARTED)


NOTHING_STARTED = "Nothing was started. The same command without --dry-run starts it."


def _plan_json(plan: LaunchPlan) -> dict[str, Any]:
    """Return a plan as `--dry-run --json` prints it."""
    return {
        "run_id": plan.run.run_id,
        "nodes": [plan.run.node],
        "run_dir": plan.run_dir,
        "argv": list(plan.run.argv),
        "files": ["run.json", "launch.sh", *plan.files],
        "script": plan.script,
        "notes": list(plan.notes),
        "findings": [to_builtins(finding) for finding in plan.findings],
        "config": to_mapping(plan.config),
    }


def _sbatch_options(partition: str | None, time: str | None, more: Sequence[str]) -> tuple[str, ...]:
    """Return the options of a Slurm job that the command line names."""
    if time is not None and not re.fullmatch(TIME_LIMIT, time):
        raise ConfigError(f"--time {time} is no time limit.", "For example: --time 24:00:00, or 2-12:00:00 with days.")
    pairs = (("partition", partition), ("time", time))
    return (*(f"{key}={value}" for key, value in pairs if value is not None), *more)


def _launch(
    targets: Sequence[Node], request: LaunchRequest, notes: Sequence[str], follow: bool, output: _Output
) -> None:
    """Start one run, wait for its first step, and follow it if asked."""
    for line in notes:
        print_status(line)
    printer = ProgressPrinter()
    try:
        run_id = launch_and_print(targets, request, output.run_id)
        snapshot = await_first_step(targets[0], run_id, printer)
    finally:
        output.started()
    print_status(next_commands(run_id, live=snapshot.health.live))
    if follow:
        raise Exit(follow_and_print(targets[0], run_id, printer))


def _launch_ensemble(
    node: Node, requests: Sequence[LaunchRequest], source: Loaded, dry_run: bool, output: _Output
) -> None:
    """Start all members and wait for their first steps; a dry run prints the first and how the others differ."""
    plans = plan_only([node], requests[0])
    check_capacity(plans[0], requests)
    for line in source.notes:
        print_status(line)
    if dry_run:
        _print_plans(plans, source, output, requests[1:])
        return
    run_ids: list[str] = []
    try:
        for request in requests:
            run_ids.append(launch_and_print([node], request, output.run_id))
        for run_id in run_ids:
            await_first_step(node, run_id, ProgressPrinter())
    except GibletError:
        remainder = "; the others were not." if run_ids else "."
        print_status(f"{len(run_ids)} of {len(requests)} members were started{remainder}")
        raise
    finally:
        output.started()
        if run_ids:
            print_status(f"next:\n  giblet ensemble {' '.join(run_ids)}\n  giblet stop {' '.join(run_ids)}")


def _launch_sweep(node: Node, requests: Sequence[LaunchRequest], dry_run: bool, output: _Output) -> None:
    """Plan all runs of a sweep, then start them, and wait for the first steps of those that need not wait."""
    sweep = requests[0].sweep
    assert sweep is not None
    if dry_run:
        plans = plan_sweep_only(node, requests)
        for line in (*warnings(plans[:1]), *plans[0].notes):
            print_status(line)
        for plan in plans:
            output.text(f"{plan.run.run_id}  {plan.run.sweep.label if plan.run.sweep else ''}")
        output.planned(plans)
        return
    run_ids: list[str] = []
    try:
        for run_id in start_sweep(node, requests):
            run_ids.append(run_id)
            output.run_id(run_id)
        remember(node)
        find_run.observe([node])
        n_failed = _await_first_steps(node, run_ids)
    finally:
        output.started()
        if run_ids:
            print_status(f"{len(run_ids)} of {sweep.n_runs} runs of {sweep.name} were started.")
            print_status(f"next:\n  giblet sweep {sweep.name}\n  giblet stop {' '.join(run_ids)}")
    if n_failed:
        raise Exit(RunFailed.exit_code)


def _await_first_steps(node: Node, run_ids: Sequence[str]) -> int:
    """Wait for the first step of each run that need not wait; return how many failed. The others are not stopped."""
    n_failed = 0
    for run_id in run_ids:
        try:
            await_first_step(node, run_id, ProgressPrinter())
        except RunFailed as error:
            n_failed += 1
            print_status(f"{error.message}\n  {error.remedy}")
    return n_failed


def _print_command_plan(plan: LaunchPlan, output: _Output) -> None:
    """Print everything that would be done for a command: checks, what is sent, files, command line."""
    print_findings(plan.findings, print_status)
    for line in plan_notes([plan]):
        print_status(line)
    files = "\n".join(f"# {plan.run_dir}/{name}" for name in ("run.json", "launch.sh", *plan.files))
    output.text(f"{files}\n# {shlex.join(plan.run.argv)}\n\n{plan.script.rstrip()}")
    output.planned([plan])


def _print_plans(
    plans: Sequence[LaunchPlan], source: Loaded, output: _Output, others: Sequence[LaunchRequest] = ()
) -> None:
    """Print everything that would be done: provenance, files, script, command line, resolved configuration."""
    for plan in plans:
        print_findings(plan.findings, print_status)
    for line in (*plan_notes(plans), *config_changes(source)):
        print_status(line)
    for plan in plans:
        if len(plans) > 1:
            output.text(f"# {plan.run.node}, node {plan.run.node_rank} of {len(plans)}")
        files = "\n".join(f"# {plan.run_dir}/{name}" for name in ("run.json", "launch.sh", *plan.files))
        output.text(f"{files}\n# {shlex.join(plan.run.argv)}\n\n{plan.script.rstrip()}\n")
    output.text(dump(plans[0].config).rstrip())
    for other in others:
        split = other.config.split
        output.text(f"# and: seed {other.config.seed}, fold {split.fold}, validation block {split.validation_block}")
    output.planned(plans, others)
