"""Decide which GPUs are free and which a run gets: the one definition that agent, launcher and dashboard share.

Pure. Part of the agent: standard library only, Python >= 3.8. The supervisor contains it too.
A GPU here is a mapping as `gpu.query_gpus` returns it; `claim` names the live run that has claimed it.
"""

from __future__ import annotations

from typing import Any, Collection, Mapping, Sequence

BUSY_GIB = 1.0
"""A GPU that holds more than this is in use, even if its process cannot be seen (it may run in a container)."""
DISPLAY_CARD_GIB = 4.0
"""A card with less memory drives a display and trains nothing."""

Gpu = Mapping[str, Any]


def why_not_free(gpu: Gpu) -> str:
    """Return why a GPU is not free: a fault, its holders, or why it suits no run; empty when it is free."""
    return str(gpu.get("fault") or "") or ", ".join(holders(gpu)) or _unsuitable(gpu)


def holders(gpu: Gpu) -> list[str]:
    """Return who uses a GPU: the runs that claimed it, else its processes, else the memory in use."""
    claims = ["claimed by %s (%s)" % (claim["run_id"], claim["user"]) for claim in gpu.get("claims") or ()]
    if claims:
        return claims
    if gpu["processes"]:
        return [
            "%s (pid %d, %.1f GiB)" % (process.get("user") or "?", process["pid"], process["memory_gib"])
            for process in gpu["processes"]
        ]
    return ["%.1f GiB in use" % gpu["memory_used_gib"]] if gpu["memory_used_gib"] > BUSY_GIB else []


def mark(gpus: Sequence[Gpu]) -> list[dict[str, Any]]:
    """Return the GPUs, each with `not_free`: the reason for people, which travels to launcher and dashboard."""
    return [dict(gpu, not_free=why_not_free(gpu)) for gpu in gpus]


def choose(
    gpus: Sequence[dict[str, Any]], n_gpus: int, among: Sequence[str] | None = None, force: bool = False
) -> list[dict[str, Any]]:
    """Return up to n_gpus GPUs for a run, the least used first; fewer when not enough are free.

    Args:
        among: UUIDs to choose from, in this order; None: all of the node.
        force: also take GPUs that are in use, after the free ones. A faulty GPU is never taken.
    """
    if among is None:
        candidates = sorted(gpus, key=_usage)
    else:
        by_uuid = {gpu["uuid"]: gpu for gpu in gpus}
        candidates = [by_uuid[uuid] for uuid in among if uuid in by_uuid]
    candidates = [gpu for gpu in candidates if not gpu.get("fault")]
    free = [gpu for gpu in candidates if not why_not_free(gpu)]
    busy = [gpu for gpu in candidates if why_not_free(gpu)]
    return [*free, *(busy if force else ())][:n_gpus]


def for_run(gpus: Sequence[Gpu], n_gpus: int) -> list[dict[str, Any]]:
    """Return the GPUs for a run that needs n_gpus. CUDA shows a process one MIG slice at most."""
    several = "a MIG slice, which serves a run of one process only"
    return mark(
        [
            dict(gpu, fault=gpu.get("fault") or (several if n_gpus > 1 and gpu.get("slice") is not None else ""))
            for gpu in gpus
        ]
    )


def without_runs(gpus: Sequence[Gpu], run_ids: Collection[str], pids: Collection[int]) -> list[dict[str, Any]]:
    """Return the GPUs as they will be once these runs, whose processes are `pids`, have ended."""
    devices = []
    for gpu in gpus:
        freed_gib = sum(process["memory_gib"] for process in gpu["processes"] if process["pid"] in pids)
        device = dict(
            gpu,
            processes=[process for process in gpu["processes"] if process["pid"] not in pids],
            memory_used_gib=gpu["memory_used_gib"] - freed_gib,
            claims=[claim for claim in gpu.get("claims") or () if claim["run_id"] not in run_ids],
        )
        devices.append(device)
    return mark(devices)


def free_after_queue(free: Sequence[str], ahead: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which free GPUs (UUIDs) are left for a run that comes after others.

    Each run ahead reserves `n_gpus` of its `among`, so a run that waits for many GPUs is not passed by smaller ones
    for ever.
    """
    remaining = list(free)
    for waiter in ahead:
        uuids = [uuid for uuid in remaining if uuid in waiter["among"]][: waiter["n_gpus"]]
        remaining = [uuid for uuid in remaining if uuid not in uuids]
    return remaining


def format_gpu(gpu: Gpu) -> str:
    """Return `GPU 0 (NVIDIA A100)`: what people call it; the UUID is for programs."""
    return "GPU %s%s" % (label(gpu), " (%s)" % gpu["name"] if gpu.get("name") else "")


def label(gpu: Gpu) -> str:
    """Return the index; of a MIG slice `0:1`, slice 1 of GPU 0."""
    return str(gpu["index"]) if gpu.get("slice") is None else "%d:%d" % (gpu["index"], gpu["slice"])


def format_not_free(gpus: Sequence[Gpu]) -> str:
    """Return `GPU 0: bob (pid 11, 20.0 GiB); ...` for the GPUs that are not free."""
    return "; ".join("%s: %s" % (format_gpu(gpu), why_not_free(gpu)) for gpu in gpus if why_not_free(gpu))


def _unsuitable(gpu: Gpu) -> str:
    if gpu.get("damage"):
        return str(gpu["damage"])
    total_gib = gpu.get("memory_total_gib")
    if total_gib is not None and total_gib < DISPLAY_CARD_GIB:
        return "a display card of %.0f GiB" % total_gib
    return ""


def _usage(gpu: Gpu) -> tuple[bool, bool, float, float, int, int]:
    """Return a sort key: no display, whole, little memory in use, little load, the node's order; noise is rounded."""
    load = round(gpu.get("utilisation") or 0.0, -1)
    used_gib = round(gpu["memory_used_gib"], 1)
    is_slice = gpu.get("slice") is not None
    return bool(gpu.get("display")), is_slice, used_gib, load, gpu["index"], gpu.get("slice") or 0
