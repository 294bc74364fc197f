"""Decide how many GPUs of a node a run gets, and whether it starts on them now or waits for them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from giblet_train.schema.errors import ConfigError, PreflightRefused
from giblet_train.schema.records import GpuWait
from giblet_tui.agent import gpu_allocation
from giblet_tui.connection.protocol import Gpu, NodeProbe
from giblet_tui.launch.request import LaunchRequest


class GpuDemand(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs of a node's GPUs; the node chooses under its start lock."""

    n_gpus: int
    among: tuple[str, ...] | None = None
    """UUIDs to choose from, in this order; None: all."""
    awaits: GpuWait | None = None
    """What the run waits for if too few are free; None: it is refused then."""


def gpu_demand(request: LaunchRequest, facts: NodeProbe) -> GpuDemand | None:
    """Return what the run needs of the node's GPUs; None if it trains on the CPU. Raises as `needs_gpus`."""
    if not needs_gpus(request, facts):
        return None
    gpus = _named_gpus(request, facts)
    n_gpus = number_of_gpus(request)
    among = tuple(device["uuid"] for device in gpus) if gpus else None
    usable = gpu_allocation.for_run(gpus or facts.gpus, n_gpus)
    candidates = [device["uuid"] for device in usable if not device.get("fault")]
    may_wait = request.when_free and n_gpus <= len(candidates)
    awaits = GpuWait(n_gpus=n_gpus, among=tuple(candidates)) if may_wait else None
    return GpuDemand(n_gpus=n_gpus, among=among, awaits=awaits)


def allocate_or_wait(request: LaunchRequest, facts: NodeProbe) -> tuple[list[Gpu], GpuWait | None]:
    """Return the GPUs that a run gets if it starts now (none: the CPU), or what it will wait for.

    The node decides again when it starts the run. Raises as `choose_gpus` where waiting does not help.
    """
    demand = gpu_demand(request, facts)
    if demand is None:
        return [], None
    try:
        gpus = choose_gpus(request, facts)
    except PreflightRefused:
        if demand.awaits is None:
            raise
        return [], demand.awaits
    must_queue = demand.awaits is not None and bool(facts.waiting) and not request.force
    return ([], demand.awaits) if must_queue else (gpus, None)


def choose_gpus(request: LaunchRequest, facts: NodeProbe) -> list[Gpu]:
    """Return the GPUs for a run: the requested ones, else the least used free ones; none for the CPU.

    Raises ConfigError for a GPU that does not exist, PreflightRefused when too few are free.
    """
    if not needs_gpus(request, facts):
        return []
    gpus_by_name = _named_gpus(request, facts)
    if gpus_by_name:
        gpus = gpu_allocation.choose(
            gpus_by_name, len(gpus_by_name), [gpu["uuid"] for gpu in gpus_by_name], request.force
        )
        if len(gpus) < len(gpus_by_name):
            raise _not_free(gpus_by_name)
        return gpus
    present = gpu_allocation.for_run(facts.gpus, number_of_gpus(request))
    gpus = gpu_allocation.choose(present, number_of_gpus(request), force=request.force)
    if len(gpus) < number_of_gpus(request):
        raise _too_few(number_of_gpus(request), present)
    return gpus


def needs_gpus(request: LaunchRequest, facts: NodeProbe) -> bool:
    """Return True if giblet chooses GPUs of this node for the run, False if it needs none or a scheduler chooses them.

    Raises ConfigError for options that contradict the configuration, PreflightRefused for a node without usable GPUs.
    """
    if request.is_job:
        return False
    if request.config.device == "cpu":
        if request.gpus is not None:
            raise ConfigError("--gpus asks for GPUs, but the configuration has device: cpu.", "Leave out one of them.")
        return False
    if facts.gpus:
        return True
    if facts.gpu_error:
        raise PreflightRefused(
            f"{facts.gpu_error}. giblet cannot see whether this node has a free GPU.",
            f"Have it repaired (after a driver update, reboot) or put on PATH, or use the CPU: {request.use_the_cpu}",
        )
    if request.config.device == "auto" and request.gpus is None:
        return False
    raise PreflightRefused(
        f"This node has no GPU: {facts.gpu_note or 'none was found'}.",
        f"Choose another node, or use the CPU: {request.use_the_cpu}",
    )


def number_of_gpus(request: LaunchRequest) -> int:
    """Return how many GPUs of a node the request needs."""
    if isinstance(request.gpus, tuple):
        return len(dict.fromkeys(request.gpus))
    return request.gpus or request.config.distributed.world_size


def _named_gpus(request: LaunchRequest, facts: NodeProbe) -> list[Gpu]:
    """Return the GPUs that the request names by index. Raises ConfigError for an index that does not exist."""
    if not isinstance(request.gpus, tuple):
        return []
    by_index = {gpu["index"]: gpu for gpu in facts.gpus if gpu.get("slice") is None}
    for index in request.gpus:
        if index not in by_index:
            raise ConfigError(f"This node has no GPU {index}.", f"It has {', '.join(map(str, by_index))}.")
    return [by_index[index] for index in dict.fromkeys(request.gpus)]


def _not_free(gpus: Sequence[Gpu]) -> PreflightRefused:
    """Return the refusal of GPUs that the request names. Not even --force makes up for a fault."""
    reasons = gpu_allocation.format_not_free(gpus)
    if any(gpu.get("n_slices") for gpu in gpus):
        remedy = "Leave out --gpus, or give a number: runs get its slices."
        return PreflightRefused(f"Not whole: {reasons}.", remedy)
    if any(gpu.get("fault") for gpu in gpus):
        return PreflightRefused(f"Not usable: {reasons}.", "Choose other --gpus, or another node.")
    return PreflightRefused(f"Busy: {reasons}.", "Choose other --gpus, or insist with --force.")


def _too_few(n_requested: int, present: Sequence[Gpu]) -> PreflightRefused:
    n_free = len(gpu_allocation.choose(present, len(present)))
    holders = gpu_allocation.format_not_free(present)
    request_clause = f"{n_requested} GPU{'s are' if n_requested > 1 else ' is'} requested"
    return PreflightRefused(
        f"{request_clause}, {n_free} of {len(present)} are free" + (f" ({holders})." if holders else "."),
        _remedy_for_too_few(n_requested, present),
    )


def _remedy_for_too_few(n_requested: int, present: Sequence[Gpu]) -> str:
    """Return what helps. Where too many have a fault, neither waiting nor force does."""
    n_usable = sum(not gpu.get("fault") for gpu in present)
    if n_usable >= n_requested:
        return "Ask for fewer with --gpus, wait with --when-free, choose another node, or insist with --force."
    if n_usable:
        return "Ask for fewer with --gpus, or choose another node."
    if n_requested > 1 and any(gpu.get("slice") is not None for gpu in present):
        return "Ask for one with --gpus 1: a run of one process gets a slice. Or choose another node."
    return "Choose another node, or ask this one's administrator."
