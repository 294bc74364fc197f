"""Runs a short command on the node without a terminal and within a time limit.

Part of the agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping


def answer(
    argv: list[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    """Run a program and return its result; None if it is not installed or takes too long. environment: ours if None."""
    try:
        return subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=limit_s,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
