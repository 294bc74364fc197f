"""Observe this node's GPUs as all of giblet sees them: nvidia-smi, the owners of processes, and what is free.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

from giblet_tui.agent import gpu, gpu_allocation


def observe_gpus() -> dict[str, Any]:
    """Return what `gpu.query_gpus` returns, with each process's `user` and each GPU's `not_free`."""
    state = gpu.query_gpus()
    for device in state["gpus"]:
        for process in device["processes"]:
            process["user"] = _owner(process["pid"])
    return dict(state, gpus=gpu_allocation.mark(state["gpus"]))


def _owner(pid: int) -> str:
    try:
        return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
    except (OSError, KeyError):
        return ""
