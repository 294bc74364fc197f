"""Observe this node's GPUs as all of giblet sees them: nvidia-smi, the owners of processes, claims, and what is free.

Part of the agent and of the supervisor: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import pwd
from typing import Any

from giblet_tui.agent import gpu, gpu_allocation, gpu_claims


def observe_gpus() -> dict[str, Any]:
    """Return what `gpu.query_gpus` returns, with each process's `user` and each GPU's `claims` and `not_free`."""
    state = gpu.query_gpus()
    claims = gpu_claims.live_claims() if state["gpus"] else []
    for device in state["gpus"]:
        for process in device["processes"]:
            process["user"] = _owner(process["pid"])
        device["claims"] = [
            {"run_id": claim["run_id"], "user": claim["user"], "pid": claim["pid"]}
            for claim in claims
            if device["uuid"] in claim["gpus"]
        ]
    return dict(state, gpus=gpu_allocation.mark(state["gpus"]))


def _owner(pid: int) -> str:
    try:
        return pwd.getpwuid(os.stat("/proc/%d" % pid).st_uid).pw_name
    except (OSError, KeyError):
        return ""
