"""A short command on a node: run without a terminal, answered within a limit or not at all."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping


def answer(
    argv: list[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str] | None:
    """What a program answered; None when it is not installed or does not end in time. environment: our own if None."""
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
