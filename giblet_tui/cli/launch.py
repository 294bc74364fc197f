"""`giblet launch`: plan a run, start it on a node, wait for its first real step, say how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from giblet_tui.cli.app import app, command
from giblet_tui.cli.arguments import Settings
from giblet_tui.cli.completion import config_names
from giblet_tui.cli.console import current_user, next_commands, print_data, print_status
from giblet_tui.cli.follow_output import detach_on_interrupt, follow_and_print
from giblet_tui.cli.nodes import NodeName, remember

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from giblet_train.schema.config import Config
    from giblet_train.schema.config_loader import Loaded
    from giblet_tui.connection.base import Connection
    from giblet_tui.inventory.nodes import Node
    from giblet_tui.launch.plan import LaunchPlan, LaunchRequest
    from giblet_tui.monitor.snapshots import RunSnapshot
    from giblet_tui.reporting.progress_lines import ProgressPrinter

Session = Literal["auto", "tmux", "screen", "process"]


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
)
def launch(
    name: NodeName,
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A name or a path.", autocompletion=config_names)],
    gpus: Annotated[str | None, typer.Option(help="How many, or which: 6, or 0,1,2, or 3, for just that one.")] = None,
    settings: Settings = None,
    note: Annotated[str, typer.Option(help="Free words, shown beside the run.")] = "",
    session: Annotated[Session | None, typer.Option(help="What holds it; what the node prefers if not given.")] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN|STEP", help="Go on from a run, a step of the last one of this name, or a path."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Stop the node's live runs of this name, once all else is checked.")
    ] = False,
    when_free: Annotated[
        bool, typer.Option("--when-free", help="Wait on the node until GPUs are free; `stop` ends the wait.")
    ] = False,
    ensemble: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="So many runs of a fold, seeds and validation blocks in turn; they queue."
        ),
    ] = None,
    all_folds: Annotated[bool, typer.Option("--all-folds", help="A run, or N, for each fold of the split.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Although this very configuration runs there already.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Although a GPU is busy or a logout would end it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at the node, show all; start nothing.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Tell it as it goes on; then its result.")] = False,
) -> None:
    """Start a run on a node and wait for its first real step, or show why there was none.

    stdout has the run's id. The run goes on whatever happens to this terminal. Several nodes, with commas, share one
    run: --gpus is then for each of them, the first one holds the records, and all need the same data.

    --ensemble N and --all-folds start several runs, which wait on the node for GPUs of their own, as many for each as
    --gpus says; `giblet ensemble` then reads them as one.
    """
    import msgspec

    from giblet_train.schema.errors import ConfigError
    from giblet_tui.inventory import configs, nodes
    from giblet_tui.reporting.progress_lines import ProgressPrinter

    node, *others = nodes.resolve_all(name)
    changes = list(settings or ())
    if resume is not None:
        changes.append(f"resume_from={resolve_resume(node, resume, configs.read(config, changes).config.name)}")
    loaded = configs.read(config, changes)
    request = build_request(loaded.config, gpus=gpus, note=note, session=session, again=again, force=force)
    request = msgspec.structs.replace(request, when_free=when_free, replace=replace)
    if others and when_free:
        raise ConfigError(
            "--when-free is for one node: of several, those with free GPUs would hold them idle for the others.",
            f"See what is free (giblet doctor {node.name}), and launch on all once there is enough.",
        )
    if others and replace:
        raise ConfigError(
            "--replace is for one node: no node can check and stop for all of them.", "giblet stop RUN, then launch."
        )
    if ensemble or all_folds:
        if others or replace or resume or follow:
            raise ConfigError(
                "An ensemble is several new runs of one node.",
                "Leave out --replace, --resume, --follow and more nodes.",
            )
        _launch_ensemble(node, request, ensemble or 1, all_folds, loaded, dry_run)
        return
    if dry_run:
        _show_plan([node, *others], request, loaded)
        return
    for line in loaded.notes:
        print_status(line)
    run_id = launch_and_print(node, request, others)
    narrator = ProgressPrinter()
    await_first_step(node, run_id, narrator)
    print_status(next_commands(run_id, live=True))
    if follow:
        raise typer.Exit(follow_and_print(node, run_id, narrator))


def _launch_ensemble(
    node: Node, request: LaunchRequest, n_members: int, every_fold: bool, loaded: Loaded, dry_run: bool
) -> None:
    """Start each member, or show the first and what the others differ by; then wait for their first steps."""
    from giblet_train.schema.errors import GibletError
    from giblet_tui.launch.ensemble import check_capacity, member_requests
    from giblet_tui.reporting.progress_lines import ProgressPrinter

    requests = member_requests(request, n_members, every_fold)
    planned = plan(node, requests[0])
    check_capacity(planned, requests)
    for line in loaded.notes:
        print_status(line)
    if dry_run:
        _show_plan([node], requests[0], loaded)
        for each in requests[1:]:
            split = each.config.split
            print_data(f"# and: seed {each.config.seed}, fold {split.fold}, validation block {split.validation_block}")
        return
    run_ids: list[str] = []
    try:
        for each in requests:
            run_ids.append(launch_and_print(node, each))
        for run_id in run_ids:
            await_first_step(node, run_id, ProgressPrinter())
    except GibletError:
        print_status(
            f"{len(run_ids)} of {len(requests)} members were started" + ("; the others were not." if run_ids else ".")
        )
        raise
    finally:
        if run_ids:
            print_status(f"next:\n  giblet ensemble {' '.join(run_ids)}\n  giblet stop {' '.join(run_ids)}")


def build_request(
    config: Config, *, gpus: str | None = None, note: str = "", session: Session | None = None, again: bool, force: bool
) -> LaunchRequest:
    """What a person asked for, as the launcher takes it. Raises ConfigError."""
    from giblet_tui.launch.plan import LaunchRequest

    return LaunchRequest(
        config=config,
        launched_by=current_user(),
        gpus=_gpus(gpus),
        session=session,
        note=note or config.note,
        again=again,
        force=force,
    )


def launch_and_print(node: Node, request: LaunchRequest, others: Sequence[Node] = ()) -> str:
    """Start the run on the node, or on several as one, telling each stage; its id, which is also printed."""
    from giblet_tui.monitor import find_run

    run_id = run_launch(node, request, print_status, others)
    print_data(run_id)
    for used in (node, *others):
        remember(used)
    find_run.observe([node, *others])
    return run_id


def run_launch(node: Node, request: LaunchRequest, tell: Callable[[str], None], others: Sequence[Node] = ()) -> str:
    """Plan the run and start it. tell: told each stage. Its id; prints nothing. Raises GibletError."""
    from giblet_tui.connection.connect import connect
    from giblet_tui.launch import multi_node
    from giblet_tui.launch.plan import launch_run

    if others:
        for line in diff_from_last_run(request.config):
            tell(line)
        return multi_node.launch_multi_node([node, *others], request, tell)
    with connect(node) as connection:
        planned = _plan(node, connection, request)
        for line in (*diff_from_last_run(request.config), *planned.notes):
            tell(line)
        with detach_on_interrupt(planned.run.run_id):
            launch_run(planned, connection, tell)
    return planned.run.run_id


def plan(node: Node, request: LaunchRequest) -> LaunchPlan:
    """The plan that a launch now would carry out; starts nothing. Raises GibletError."""
    from giblet_tui.connection.connect import connect

    with connect(node) as connection:
        return _plan(node, connection, request)


def changes(loaded: Loaded) -> list[str]:
    """What reading it said, what differs from the last run of its name, and which keys are not the base's."""
    own = [f"# {key}: from {file}" for key, file in loaded.provenance.items() if file != "base.yaml"]
    return [*loaded.notes, *diff_from_last_run(loaded.config), *own]


def await_first_step(node: Node, run_id: str, narrator: ProgressPrinter) -> RunSnapshot:
    """Wait until the run has made a step, telling what it waits for. Raises RunFailed with the cause."""
    from giblet_tui.connection.connect import connect
    from giblet_tui.launch.plan import await_first_step as wait

    def tell_news(run: RunSnapshot) -> None:
        for line in narrator.new_lines(run):
            print_status(line)

    with detach_on_interrupt(run_id), connect(node) as connection:
        return wait(node, connection, run_id, tell_news)


def _plan(node: Node, connection: Connection, request: LaunchRequest) -> LaunchPlan:
    from giblet_tui.connection.sanitize import sanitize_value
    from giblet_tui.deploy.install import environment
    from giblet_tui.launch.plan import NO_RUNS, plan_launch, runs_to_replace

    facts = sanitize_value(connection.call("probe", {"workdir": node.workdir}, timeout_s=60.0))
    superseded = NO_RUNS
    if request.replace:
        superseded = runs_to_replace(
            request.config.name, connection.call("remains", {"workdir": node.workdir}, timeout_s=60.0)
        )
    return plan_launch(request, node, facts, environment(node, connection).python, superseded=superseded)


def _show_plan(where: Sequence[Node], request: LaunchRequest, loaded: Loaded) -> None:
    """All that would be done: the resolved configuration with provenance, the files, the script, the command line."""
    import shlex

    from giblet_train.schema.config import dump
    from giblet_tui.launch import multi_node

    plans = multi_node.plan_multi_node(where, request) if len(where) > 1 else [plan(where[0], request)]
    for line in (*(note for planned in plans for note in planned.notes), *changes(loaded)):
        print_status(line)
    for planned in plans:
        if len(plans) > 1:
            print_data(f"# {planned.run.node}, node {planned.run.node_rank} of {len(plans)}")
        files = "\n".join(f"# {planned.run_dir}/{name}" for name in ("run.json", "launch.sh", *planned.files))
        print_data(f"{files}\n# {shlex.join(planned.run.argv)}\n\n{planned.script.rstrip()}\n")
    print_data(dump(plans[0].config).rstrip())


def diff_from_last_run(config: Config) -> list[str]:
    """What is different from the last run of this name that was seen from here, and from the last production run."""
    from giblet_tui.monitor import cache

    seen = [run for run in cache.load().runs() if run.config is not None]
    last = [run for run in seen if run.run.name == config.name][:1]
    production = [run for run in seen if run.config is not None and run.config.stage == "production"][:1]
    return [line for run in (*last, *(p for p in production if p not in last)) for line in _difference(run, config)]


def _difference(run: RunSnapshot, config: Config) -> list[str]:
    from giblet_train.schema.config import diff
    from giblet_tui.reporting.formatting import diff_lines

    changes = diff(run.config, config) if run.config is not None else {}
    what = f"{run.run.run_id} (production)" if run.config and run.config.stage == "production" else run.run.run_id
    return [f"different from {what}:", *diff_lines(changes)] if changes else [f"the same configuration as {what}"]


def resolve_resume(node: Node, text: str, name: str) -> str:
    """What `resume_from` becomes: a path as it is, a run by its whole id, a step's checkpoint. Raises ConfigError."""
    from giblet_train.schema.errors import ConfigError
    from giblet_tui.monitor import find_run

    if "/" in text:
        return text
    if text.isdecimal():
        return _checkpoint_at(node, int(text), name)
    where, run_id = find_run.locate(text, print_status)
    if where.name != node.name:
        raise ConfigError(f"{run_id} lies on {where.name}, not on {node.name}.", f"giblet launch {where.name} …")
    return run_id


def _checkpoint_at(node: Node, step: int, name: str) -> str:
    """The checkpoint after so many steps of the node's newest run of that name which has one. Raises ConfigError."""
    from giblet_train.schema.errors import ConfigError
    from giblet_tui.monitor import watch

    there: list[int] = []
    for run in watch.observe_once(node).runs:
        if run.run.name == name:
            for record in run.checkpoints:
                if record.step == step:
                    return f"{run.run.run_id}/checkpoints/{record.file}"
                there.append(record.step)
    steps = ", ".join(map(str, sorted(set(there)))) or "none"
    raise ConfigError(f"No run of {name} on {node.name} has a checkpoint at step {step}.", f"There are: {steps}")


def _gpus(text: str | None) -> int | tuple[int, ...] | None:
    from giblet_train.schema.errors import ConfigError

    if text is None:
        return None
    try:
        if "," in text:
            return tuple(int(part) for part in text.split(",") if part.strip())
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ConfigError(
            f"--gpus {text}: a number of GPUs, or a list of them.", "For example: --gpus 6, or --gpus 0,1,2"
        )
    return count
