"""Launch a run on one node or on several: connect, plan for all of them, start on all of them or on none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError, GibletError, PreflightRefused
from giblet_train.schema.records import Rendezvous
from giblet_train.schema.run_dir import new_run_id
from giblet_tui.agent import layout
from giblet_tui.connection import protocol, ssh_config
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.protocol import Done, EngineFacts, FreePort, NodeProbe, Resources, StartedRun
from giblet_tui.deploy.install import check_engine
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch import preflight
from giblet_tui.launch.checkpoint_transfer import plan_transfer
from giblet_tui.launch.command import check_on_node
from giblet_tui.launch.finding import Finding
from giblet_tui.launch.plan import (
    NO_RUNS,
    LaunchPlan,
    NodeAssignment,
    ReplacedRuns,
    facts_without,
    plan_node,
    runs_to_replace,
    with_world_size,
)
from giblet_tui.launch.request import LaunchRequest
from giblet_tui.launch.slurm_options import for_node, job_nodes
from giblet_tui.monitor import cache

PROBE_LIMIT_S = 60.0
DISCARD_LIMIT_S = 60.0
START_LIMIT_S = 150.0
STOP_LIMIT_S = 3700.0
"""How long a replaced run may take to save and end: the longest grace that a run can have."""

Target = tuple[Node, Connection]
Report = Callable[[str], None]


class CheckedNode(msgspec.Struct, frozen=True, kw_only=True):
    """What planning needs to know of a node; its checks have passed."""

    facts: NodeProbe
    python: str
    """The interpreter on the node that has this version of giblet; empty if a command does without."""
    replaced: ReplacedRuns = NO_RUNS
    findings: tuple[Finding, ...] = ()
    """What the checks found."""


@contextmanager
def connected(nodes: Sequence[Node]) -> Iterator[list[Target]]:
    """Connect to all nodes at once. Raises Unreachable."""
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        futures = [pool.submit(connect, node) for node in nodes]
        failures = [failure for failure in (future.exception() for future in futures) if failure]
        connections = [stack.enter_context(future.result()) for future in futures if future.exception() is None]
        if failures:
            raise failures[0]
        yield list(zip(nodes, connections, strict=True))


def plan_launch(targets: Sequence[Target], request: LaunchRequest, report: Report | None = None) -> list[LaunchPlan]:
    """Plan a run: one plan per node, all under one run id. Starts nothing.

    Args:
        report: if given, a checkpoint that a multi-node run resumes from is copied to the nodes that lack it, and
            `report` receives a line per copy; None: only look.

    Raises ConfigError, PreflightRefused if a node cannot carry out its part.
    """
    nodes = [node for node, _ in targets]
    if len({node.name for node in nodes}) < len(nodes):
        raise ConfigError("A node is named twice.", "Name each node of the run once.")
    request = for_node(request, nodes[0])
    if len(nodes) > 1 and request.is_job:
        raise ConfigError("A job of Slurm is launched from one node: Slurm chooses where it runs.", "Name one node.")
    if len(nodes) > 1:
        request = _pin_checkpoint(targets, request, report)
    share = split_request(request, job_nodes(request) if request.is_job else len(nodes))
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        states = list(pool.map(lambda target: check_target(target, share, len(nodes)), targets))
    rendezvous = _rendezvous(targets[0]) if len(nodes) > 1 else None
    run_id, names = new_run_id(request.config.name), tuple(node.name for node in nodes)
    plans = []
    for rank, (node, state) in enumerate(zip(nodes, states, strict=True)):
        assignment = NodeAssignment(run_id=run_id, nodes=names, node_rank=rank, rendezvous=rendezvous)
        with _named_errors(node, len(nodes)):
            plan = plan_node(share, node, state.facts, state.python, assignment, state.replaced)
            plans.append(replace(plan, findings=state.findings))
    if len({plan.run.config_hash for plan in plans}) > 1:
        raise PreflightRefused("The nodes offer different numbers of GPUs.", "Say how many each gives: --gpus N")
    return plans


def plan_sweep(target: Target, requests: Sequence[LaunchRequest]) -> list[LaunchPlan]:
    """Plan the runs of a sweep on one node; runs that need the same of it are checked once. Starts nothing.

    Raises as `plan_launch`.
    """
    node, _ = target
    findings_by_plan: dict[bytes, CheckedNode] = {}
    plans: list[LaunchPlan] = []
    for free_request in requests:
        job = for_node(replace(free_request, when_free=False), node)
        # A scheduler has a queue of its own.
        request = split_request(job, job_nodes(job)) if job.is_job else free_request
        config, command = request.config, request.command
        needs = msgspec.json.encode([config.data, config.device, config.distributed, command and command.words[0]])
        state = findings_by_plan.get(needs) or findings_by_plan.setdefault(needs, check_target(target, request, 1))
        run_id = new_run_id(config.name)
        while run_id in [plan.run.run_id for plan in plans]:  # many ids of one second, with four digits each
            run_id = new_run_id(config.name)
        assignment = NodeAssignment(run_id=run_id, nodes=(node.name,))
        plan = plan_node(request, node, state.facts, state.python, assignment)
        plans.append(replace(plan, findings=state.findings))
    return plans


def start(targets: Sequence[Target], plans: Sequence[LaunchPlan], report: Report) -> None:
    """Carry out the plans, one node after the other.

    Raises GibletError with the node's own exit code; nothing of the run is then left on any node.
    """
    starts: list[tuple[Target, LaunchPlan]] = []
    for (node, connection), plan in zip(targets, plans, strict=True):
        try:
            with _named_errors(node, len(targets)):
                start_on_node(plan, connection, report if len(targets) == 1 else _prefixed(node, report))
        except BaseException as error:
            _roll_back(starts, error)
            raise
        starts.append(((node, connection), plan))


def start_on_node(plan: LaunchPlan, connection: Connection, report: Report) -> str:
    """Start the planned run on one node; return its run directory there.

    Raises the node's refusal with its own exit code (then nothing of the run is left), and Unreachable if the
    connection breaks (the run may have started: `giblet ps` shows).
    """
    arguments: dict[str, Any] = {
        "workdir": plan.workdir,
        "record": msgspec.to_builtins(plan.run),
        "files": plan.files,
        "gpus": msgspec.to_builtins(plan.gpus),
        "again": plan.again,
        "force": plan.force,
        "replaces": plan.replaces,
        "archive": "",
    }
    if plan.archive is not None:
        report(f"sending {plan.archive.n_files} files, {len(plan.archive.data) / 1e6:.1f} MB")
        arguments["archive"] = f"{plan.workdir}/{layout.SOURCES}/{plan.archive.name}"
        connection.put(plan.archive.data, arguments["archive"])
    limit_s = START_LIMIT_S + len(plan.replaces) * STOP_LIMIT_S
    on_event = protocol.progress_to(report)
    return connection.call("start", arguments, StartedRun, timeout_s=limit_s, on_event=on_event).run_dir


def check_target(target: Target, request: LaunchRequest, n_nodes: int) -> CheckedNode:
    """Ask a node once for everything that planning needs, and check that it can carry out the request.

    Raises PreflightRefused with everything that it lacks.
    """
    node, connection = target
    with _named_errors(node, n_nodes):
        command = request.command
        answer, skew_s = preflight.observe(node, connection, request.config if command is None else None)
        engine = check_engine(node, answer.engine) if command is None else preflight.engine_of(node, answer)
        if command is not None:
            check_on_node(connection, command)
        replaced_runs = NO_RUNS
        if request.replace:
            resources = connection.call("remains", {"workdir": node.workdir}, Resources, timeout_s=PROBE_LIMIT_S)
            replaced_runs = runs_to_replace(request.config.name, resources)
        probe = facts_without(answer.probe, replaced_runs)
        device = "cpu" if request.is_job else request.config.device
        effective_node = replace(node, multiplexer=request.session or node.multiplexer)
        findings = [
            *preflight.check_node(effective_node, answer.probe, engine, skew_s, device, command is None),
            *preflight.check_run(request, probe, answer.files, cache.load().runs()),
        ]
        preflight.refuse(node, request, findings)
    python = engine.python if isinstance(engine, EngineFacts) else ""
    return CheckedNode(facts=answer.probe, python=python, replaced=replaced_runs, findings=tuple(findings))


def split_request(request: LaunchRequest, n_nodes: int) -> LaunchRequest:
    """Return one node's share of a request: its configuration counts that node's processes only.

    Raises ConfigError if the processes cannot be shared equally.
    """
    world_size = request.config.distributed.world_size
    if request.gpus is None and world_size > 1 and world_size % n_nodes:
        raise ConfigError(
            f"distributed.world_size {world_size} cannot be shared equally by {n_nodes} nodes.",
            f"Say how many GPUs each node gives: --gpus {max(1, world_size // n_nodes)}",
        )
    return replace(request, config=with_world_size(request.config, max(1, world_size // n_nodes)))


def address_of(node: Node) -> str:
    """Return the address at which the other nodes reach this one. Raises ConfigError if it is unknown."""
    if node.address is not None:
        return node.address
    if node.transport == "local":
        raise ConfigError(f"Other nodes do not know how to reach {node.name}.", "Give it an `address:` in nodes.yaml.")
    return ssh_config.hostname(node.host, node.ssh_config)


def _rendezvous(target: Target) -> Rendezvous:
    node, connection = target
    address = address_of(node)
    port = connection.call("free_port", {}, FreePort).port
    return Rendezvous(address=address, port=port, key=secrets.token_hex(16))


def _pin_checkpoint(targets: Sequence[Target], request: LaunchRequest, report: Report | None) -> LaunchRequest:
    """Replace resume_from by the exact checkpoint path so that every node resumes from the same file.

    Raises PreflightRefused.
    """
    if request.config.resume_from is None:
        return request
    transfer = plan_transfer(targets, request.config.resume_from)
    if report is not None:
        transfer.transfer(report)
    return replace(request, config=replace(request.config, resume_from=transfer.checkpoint.place))


def _roll_back(starts: Sequence[tuple[Target, LaunchPlan]], error: BaseException) -> None:
    """Take the run back on the nodes where it has started; add to the error where that was not possible."""
    not_rolled_back = []
    for (node, connection), plan in starts:
        try:
            arguments = {"workdir": plan.workdir, "run_id": plan.run.run_id}
            connection.call("discard", arguments, Done, timeout_s=DISCARD_LIMIT_S)
        except GibletError:
            not_rolled_back.append(node.name)
    if not_rolled_back and isinstance(error, GibletError):
        error.remedy += f" The run still exists on {', '.join(not_rolled_back)}: giblet stop --stale"


def _prefixed(node: Node, report: Report) -> Report:
    return lambda line: report(f"{node.name}: {line}")


@contextmanager
def _named_errors(node: Node, n_nodes: int) -> Iterator[None]:
    """Name the node in a refusal if it is one of several."""
    try:
        yield
    except GibletError as error:
        if n_nodes > 1 and not error.message.startswith(node.name):
            error.message = f"{node.name}: {error.message}"
        raise
