"""The steps of a launch that several commands share: request, start, first step, and the lines printed meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from giblet_train.schema.config import Config, diff
from giblet_train.schema.config_loader import Loaded
from giblet_train.schema.errors import ConfigError
from giblet_tui.cli.console import print_data, print_status
from giblet_tui.cli.follow_output import detach_on_interrupt
from giblet_tui.cli.nodes import remember
from giblet_tui.connection.connect import connect
from giblet_tui.inventory import configs
from giblet_tui.inventory.nodes import Multiplexer, Node
from giblet_tui.inventory.user import current_user
from giblet_tui.launch import first_step
from giblet_tui.launch.plan import LaunchPlan
from giblet_tui.launch.request import LaunchRequest, parse_gpus
from giblet_tui.launch.resume import resolve_resume
from giblet_tui.launch.start import connected, plan_launch, plan_sweep, start
from giblet_tui.monitor import cache, find_run
from giblet_tui.monitor.snapshots import RunSnapshot
from giblet_tui.reporting.doctor import finding_lines
from giblet_tui.reporting.progress_lines import ProgressPrinter
from giblet_tui.reporting.tables import diff_lines


def build_request(
    config: Config,
    *,
    gpus: str | None = None,
    note: str = "",
    session: Multiplexer | None = None,
    again: bool,
    force: bool,
) -> LaunchRequest:
    """Build a request from the options that every launching command has. Raises ConfigError."""
    return LaunchRequest(
        config=config,
        launched_by=current_user(),
        gpus=parse_gpus(gpus),
        session=session,
        note=note or config.note,
        again=again,
        force=force,
    )


def load_config(node: Node, config: str | None, settings: Sequence[str], resume: str | None) -> Loaded:
    """Read the configuration with its overrides; --resume is one of them. Raises ConfigError."""
    if config is None:
        raise ConfigError(
            "Name a configuration, or a command behind --.",
            "giblet launch NODE CONFIG (giblet config ls lists them), or giblet launch NODE -- python train.py",
        )
    if resume is None:
        return configs.read(config, settings)
    checkpoint = resolve_resume(node, resume, configs.read(config, settings).config.name, print_status)
    return configs.read(config, [*settings, f"resume_from={checkpoint}"])


def launch_and_print(
    nodes: Sequence[Node], request: LaunchRequest, print_id: Callable[[str], None] = print_data
) -> str:
    """Start the run, print each stage on stderr and its id on stdout; return the id."""
    run_id = run_launch(nodes, request, print_status)
    print_id(run_id)
    for node in nodes:
        remember(node)
    find_run.observe(nodes)
    return run_id


def run_launch(nodes: Sequence[Node], request: LaunchRequest, report: Callable[[str], None]) -> str:
    """Plan the run and start it; return its id. report: receives each stage. Raises GibletError."""
    with connected(nodes) as targets:
        plans = plan_launch(targets, request, report)
        changes = diff_from_last_run(request.config) if request.command is None else ()
        for line in (*warnings(plans), *changes, *plan_notes(plans)):
            report(line)
        run_id = plans[0].run.run_id
        if len(plans) > 1:
            start(targets, plans, report)
        else:  # the node finishes a start that it has begun, so Ctrl-C leaves a whole run
            with detach_on_interrupt(run_id):
                start(targets, plans, report)
    return run_id


def plan_only(nodes: Sequence[Node], request: LaunchRequest) -> list[LaunchPlan]:
    """Return the plans that a launch would carry out now; start nothing. Raises GibletError."""
    with connected(nodes) as targets:
        return plan_launch(targets, request)


def plan_sweep_only(node: Node, requests: Sequence[LaunchRequest]) -> list[LaunchPlan]:
    """Return the plans of all runs of a sweep; start nothing. Raises GibletError."""
    with connected([node]) as targets:
        return plan_sweep(targets[0], requests)


def start_sweep(node: Node, requests: Sequence[LaunchRequest]) -> Iterator[str]:
    """Plan all runs, then start them one after the other; yield the id of each. Raises GibletError.

    Nothing starts if one of them cannot. If a start itself fails, the runs before it go on.
    """
    with connected([node]) as targets:
        plans = plan_sweep(targets[0], requests)
        for line in (*warnings(plans[:1]), *plans[0].notes):
            print_status(line)
        for plan in plans:
            label = plan.run.sweep.label if plan.run.sweep else ""
            with detach_on_interrupt(plan.run.run_id):
                start(targets, [plan], lambda stage: None)
            print_status(f"started {label}")
            yield plan.run.run_id


def warnings(plans: Sequence[LaunchPlan]) -> list[str]:
    """Return the checks that are not well although the run can start, each with its node and remedy."""
    return [
        f"{plan.run.node}: {line}{' '.join(['.', *map(str.strip, remedy)]) if remedy else ''}"
        for plan in plans
        for finding in plan.findings
        if not finding.well
        for line, remedy in [finding_lines(finding)]
    ]


def check_lines(plan: LaunchPlan) -> list[str]:
    """Return every check of the plan's node with its mark, and the remedies of those that are not well."""
    return [
        text
        for finding in plan.findings
        for line, remedy in [finding_lines(finding)]
        for text in (f"{finding.mark} {line}", *remedy)
    ]


def plan_notes(plans: Sequence[LaunchPlan]) -> list[str]:
    """Return the notes of the plans, each after its node's name if there are several."""
    several = len(plans) > 1
    return [f"{plan.run.node}: {note}" if several else note for plan in plans for note in plan.notes]


def await_first_step(node: Node, run_id: str, printer: ProgressPrinter) -> RunSnapshot:
    """Wait until the run has made a step, and print what it waits for. Raises RunFailed with the cause."""

    def print_news(run: RunSnapshot) -> None:
        for line in printer.new_lines(run):
            print_status(line)

    with detach_on_interrupt(run_id), connect(node) as connection:
        return first_step.await_first_step(node, connection, run_id, print_news)


def config_changes(source: Loaded) -> list[str]:
    """Return the loader's notes, the difference from the last run of this name, and where each key comes from."""
    own_keys = [f"# {key}: from {file}" for key, file in source.provenance.items() if file != "base.yaml"]
    return [*source.notes, *diff_from_last_run(source.config), *own_keys]


def diff_from_last_run(config: Config) -> list[str]:
    """Compare the configuration with the last run of its name seen from here, and with the last production run."""
    runs = [run for run in cache.load().runs() if run.config is not None]
    last = [run for run in runs if run.run.name == config.name][:1]
    production = [run for run in runs if run.config is not None and run.config.stage == "production"][:1]
    return [line for run in (*last, *(p for p in production if p not in last)) for line in _difference(run, config)]


def _difference(run: RunSnapshot, config: Config) -> list[str]:
    changes = diff(run.config, config) if run.config is not None else {}
    name = f"{run.run.run_id} (production)" if run.config and run.config.stage == "production" else run.run.run_id
    return [f"different from {name}:", *diff_lines(changes)] if changes else [f"the same configuration as {name}"]
