"""One run over several nodes: planned for all of them together, and started on all of them or on none."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from msgspec.structs import replace

from giblet_train.schema.errors import ConfigError, GibletError, PreflightRefused
from giblet_train.schema.records import Rendezvous
from giblet_train.schema.run_dir import new_run_id
from giblet_tui.connection import ssh_config
from giblet_tui.connection.base import Connection
from giblet_tui.connection.connect import connect
from giblet_tui.connection.sanitize import sanitize_value
from giblet_tui.deploy.install import environment
from giblet_tui.inventory.nodes import Node
from giblet_tui.launch.checkpoint_transfer import plan_transfer
from giblet_tui.launch.plan import LaunchPlan, LaunchRequest, NodeAssignment, launch_run, plan_launch

PROBE_LIMIT_S = 60.0
DISCARD_LIMIT_S = 60.0

Member = tuple[Node, Connection]


def launch_multi_node(nodes: Sequence[Node], request: LaunchRequest, say: Callable[[str], None]) -> str:
    """Start one run on all these nodes, the first of which holds its records; its id.

    say: told each stage with its node. Raises GibletError; what had been started before it is taken back.
    """
    with _connected(nodes) as members:
        plans = _planned(members, _pin_checkpoint(members, request, say))
        for (node, _), planned in zip(members, plans, strict=True):
            for line in planned.notes:
                say(f"{node.name}: {line}")
        start_all(members, plans, say)
    return plans[0].run.run_id


def plan_multi_node(nodes: Sequence[Node], request: LaunchRequest) -> list[LaunchPlan]:
    """What a launch now would carry out on each node; starts nothing. Raises GibletError."""
    with _connected(nodes) as members:
        return _planned(members, _pin_checkpoint(members, request))


def start_all(members: Sequence[Member], plans: Sequence[LaunchPlan], say: Callable[[str], None]) -> None:
    """Carry out the plans, one node after the other. Raises GibletError with nothing of the run left anywhere."""
    begun: list[tuple[Member, LaunchPlan]] = []
    try:
        for (node, connection), planned in zip(members, plans, strict=True):
            begun.append(((node, connection), planned))
            launch_run(planned, connection, _of(node, say))
    except BaseException as error:
        failed = begun.pop()[0][0].name
        left = [node.name for (node, connection), planned in begun if not _rolled_back(connection, planned)]
        if isinstance(error, GibletError):
            error.message = f"{failed}: {error.message}"
            if left:
                error.remedy += f" What was started on {', '.join(left)} is still there: giblet stop --stale"
        raise


def split_request(request: LaunchRequest, n_nodes: int) -> LaunchRequest:
    """The request for one of the nodes, whose configuration counts that node's processes alone.

    Raises ConfigError when the processes cannot be shared equally.
    """
    wanted = request.config.distributed.world_size
    if request.gpus is None and wanted > 1 and wanted % n_nodes:
        raise ConfigError(
            f"distributed.world_size {wanted} cannot be shared equally by {n_nodes} nodes.",
            f"Say how many GPUs each node gives: --gpus {max(1, wanted // n_nodes)}",
        )
    distributed = replace(request.config.distributed, world_size=max(1, wanted // n_nodes))
    return replace(request, config=replace(request.config, distributed=distributed))


def address_of(node: Node) -> str:
    """Where the run's other nodes reach this one. Raises ConfigError when nothing says so."""
    if node.address is not None:
        return node.address
    if node.transport == "local":
        raise ConfigError(
            f"Nothing says where other nodes reach {node.name}.",
            "Give it an `address:` in nodes.yaml.",
        )
    return ssh_config.hostname(node.host, node.ssh_config)


def _pin_checkpoint(
    members: Sequence[Member], request: LaunchRequest, say: Callable[[str], None] | None = None
) -> LaunchRequest:
    """The request with the checkpoint that it resumes from named exactly, so that no node takes another.

    say: bring it to the nodes that lack it, telling so; None: only look. Raises PreflightRefused.
    """
    if request.config.resume_from is None:
        return request
    checkpoint = plan_transfer(members, request.config.resume_from)
    if say is not None:
        checkpoint.transfer(say)
    return replace(request, config=replace(request.config, resume_from=checkpoint.found.place))


def _planned(members: Sequence[Member], request: LaunchRequest) -> list[LaunchPlan]:
    """A plan for each node, under one run id. Raises PreflightRefused when the nodes do not fit one another."""
    nodes = [node for node, _ in members]
    if len({node.name for node in nodes}) < len(nodes):
        raise ConfigError("A node is named twice.", "Name each node of the run once.")
    share = split_request(request, len(nodes))
    with ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        looked = list(pool.map(_probe, members))
    first, connection = members[0]
    address = address_of(first)
    port = int(connection.call("free_port", {})["port"])
    rendezvous = Rendezvous(address=address, port=port, key=secrets.token_hex(16))
    run_id, names = new_run_id(request.config.name), tuple(node.name for node in nodes)
    plans = []
    for rank, (node, (facts, python)) in enumerate(zip(nodes, looked, strict=True)):
        place = NodeAssignment(run_id=run_id, nodes=names, node_rank=rank, rendezvous=rendezvous)
        with _prefix_errors(node):
            plans.append(plan_launch(share, node, facts, python, place))
    if len({planned.run.config_hash for planned in plans}) > 1:
        raise PreflightRefused(
            "The nodes do not give the same number of processes.", "Say how many each gives: --gpus N"
        )
    return plans


def _probe(member: Member) -> tuple[dict[str, Any], str]:
    node, connection = member
    facts = sanitize_value(connection.call("probe", {"workdir": node.workdir}, timeout_s=PROBE_LIMIT_S))
    return facts, environment(node, connection).python


def _of(node: Node, say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda stage: say(f"{node.name}: {stage}")


@contextmanager
def _prefix_errors(node: Node) -> Iterator[None]:
    """A refusal in here names the node, one of several."""
    try:
        yield
    except GibletError as error:
        if node.name not in error.message:
            error.message = f"{node.name}: {error.message}"
        raise


def _rolled_back(connection: Connection, planned: LaunchPlan) -> bool:
    with suppress(GibletError):
        connection.call(
            "discard", {"workdir": planned.workdir, "run_id": planned.run.run_id}, timeout_s=DISCARD_LIMIT_S
        )
        return True
    return False


@contextmanager
def _connected(nodes: Sequence[Node]) -> Iterator[list[Member]]:
    """A connection to each, opened all at once. Raises Unreachable."""
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=len(nodes)) as pool:
        futures = [pool.submit(connect, node) for node in nodes]
        failures = [failure for failure in (future.exception() for future in futures) if failure]
        opened = [stack.enter_context(future.result()) for future in futures if future.exception() is None]
        if failures:
            raise failures[0]
        yield list(zip(nodes, opened, strict=True))
