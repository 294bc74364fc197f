"""Choose free GPUs of this node and claim them, for runs and evaluations alike.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from giblet_tui.agent import gpu_allocation, gpu_claims, gpu_state, layout, run_processes
from giblet_tui.agent.main import AgentRefusal, Emit

_CLAIM_TRIES = 50


def claim_for_run(
    workdir: str,
    record: dict[str, Any],
    demand: dict[str, Any],
    replaced_runs: Sequence[run_processes.LocalRun],
    force: bool,
    emit: Emit,
) -> gpu_claims.GpuClaim | None:
    """Claim GPUs for a run; its record gets them, or else what the run waits for (then None).

    demand: n_gpus; among, the UUIDs to choose from in this order, or None; awaits, for a run that may wait.
    Raises AgentRefusal if too few are free and the run may not wait.
    """
    replaced_ids = [run.run_id for run in replaced_runs]
    claim, devices = _claim(
        record["run_id"], lambda: _choose_for_run(workdir, demand, replaced_runs, force), replaced_ids, force
    )
    if claim is None:
        record.update(gpus=[], awaits=demand["awaits"])
        return None
    record.update(gpus=claim.record["gpus"], awaits=None)
    emit({"step": "claimed " + ", ".join(map(gpu_allocation.format_gpu, devices))})
    return claim


def claim_for_evaluation(workdir: str, run_id: str, index: int | None) -> tuple[gpu_claims.GpuClaim | None, str]:
    """Claim a GPU for an evaluation of a run; return the claim (None: it uses the CPU) and the device for people.

    index: a GPU, or None for any free one. Raises AgentRefusal for a GPU that is not free.
    """
    claim, devices = _claim(run_id, lambda: _choose_for_evaluation(workdir, index))
    if claim is not None:
        return claim, gpu_allocation.format_gpu(devices[0])
    has_gpus = bool(gpu_state.observe_gpus()["gpus"])
    return None, "the CPU" + (": no GPU is free" if has_gpus else "")


def _claim(
    run_id: str, choose: Callable[[], list[Any]], spared_runs: Collection[str] = (), force: bool = False
) -> tuple[gpu_claims.GpuClaim | None, list[Any]]:
    """Claim what `choose` returns; choose again if another start claims the same at this moment. None: no GPU."""
    for _ in range(_CLAIM_TRIES):
        devices = choose()
        if not devices:
            return None, []
        claim = gpu_claims.claim(run_id, [str(device["uuid"]) for device in devices])
        if force or not gpu_claims.conflicting(claim, spared_runs):
            return claim, devices
        claim.release()
        time.sleep(random.uniform(0.0, 0.1))
    raise AgentRefusal("Other starts claim this node's GPUs at the same moment.", "Try again.", 5)


def _choose_for_run(
    workdir: str, demand: dict[str, Any], replaced_runs: Sequence[run_processes.LocalRun], force: bool
) -> list[Any]:
    """Return the GPUs that a run may take now, past no run that waits for them; nothing for a run that has to wait."""
    state = gpu_state.observe_gpus()
    pids = {pid for run in replaced_runs for pid in run.processes()}
    gpus = gpu_allocation.without_runs(state["gpus"], [run.run_id for run in replaced_runs], pids)
    among, n_gpus = demand["among"], int(demand["n_gpus"])
    gpus = gpu_allocation.for_run(gpus, n_gpus)
    candidates = gpu_allocation.choose(gpus, len(gpus), among, force)
    waiting = [] if force or replaced_runs else run_processes.waiting(workdir)
    unreserved_gpus = _unreserved(candidates, waiting)
    if len(unreserved_gpus) >= n_gpus:
        return unreserved_gpus[:n_gpus]
    if demand["awaits"]:
        return []
    if len(candidates) >= n_gpus:
        raise AgentRefusal(
            f"{waiting[0].run_id} waits for GPUs here, and comes first.",
            "Wait behind it with --when-free, choose others with --gpus, or insist with --force.",
            5,
        )
    devices = [device for device in gpus if among is None or device["uuid"] in among]
    reason = gpu_allocation.format_not_free(devices) or state["gpu_note"] or "nvidia-smi lists no other"
    raise AgentRefusal(
        f"{n_gpus} free {'GPU is' if n_gpus == 1 else 'GPUs are'} needed, {len(candidates)} of {len(devices)} are:"
        f" {reason}.",
        "Wait with --when-free, choose others with --gpus, or insist with --force.",
        5,
    )


def _choose_for_evaluation(workdir: str, index: int | None) -> list[Any]:
    """Return the GPU of that index, or the least used free one, if there is one that no run waits for."""
    state = gpu_state.observe_gpus()
    gpus = state["gpus"]
    free = _unreserved(gpu_allocation.choose(gpus, len(gpus)), run_processes.waiting(workdir))
    if index is None:
        return free[:1]
    devices = [device for device in gpus if gpu_allocation.label(device) == str(index)]
    if not devices:
        raise AgentRefusal(f"There is no GPU {index} here.", state["gpu_note"] or "`giblet doctor` lists them.", 2)
    if devices[0] not in free:
        reason = gpu_allocation.format_not_free(devices) or "a run waits for it"
        raise AgentRefusal(f"GPU {index} is in use: {reason}.", "Name a free one, or leave --gpu out: any free one.", 5)
    return devices


def _unreserved(devices: list[Any], waiting: Sequence[run_processes.LocalRun]) -> list[Any]:
    """Return the GPUs that are left once each waiting run has its share."""
    ahead = [run.record(layout.RUN)["awaits"] for run in waiting]
    uuids = gpu_allocation.free_after_queue([device["uuid"] for device in devices], ahead)
    return [device for device in devices if device["uuid"] in uuids]
