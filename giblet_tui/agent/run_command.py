"""Runs short commands on the node without a terminal and within a time limit, whatever they do.

A program that hangs in the kernel (nvidia-smi on a lost GPU, anything on a dead network file system) cannot be killed,
and its children may hold its output open. Such a program is left behind: its end is not waited for. Only its start is,
which blocks while the file of the program itself cannot be read.

Part of the agent: standard library only, Python >= 3.8. The supervisor contains it too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

_END_LIMIT_S = 0.5
"""How long a killed program may take to end; afterwards it hangs in the kernel."""


def answer(
    argv: list[str],
    limit_s: float,
    environment: Mapping[str, str] | None = None,
    text: str = "",
    folder: str | None = None,
) -> subprocess.CompletedProcess[str] | None:
    """Run a program and return its result; None if it cannot be started or takes too long.

    environment: ours if None. text: its standard input.
    folder: where it runs; None: in the current folder, which need not be searchable.
    """
    try:
        (result,) = answers([argv], time.monotonic() + limit_s, environment, text, folder)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result


def answers(
    commands: Sequence[list[str]],
    deadline: float,
    environment: Mapping[str, str] | None = None,
    text: str = "",
    folder: str | None = None,
) -> list[subprocess.CompletedProcess[str]]:
    """Run programs side by side and return their results. Raises OSError, and TimeoutExpired if one takes too long."""
    processes: list[subprocess.Popen[str]] = []
    try:
        for argv in commands:
            processes.append(
                subprocess.Popen(
                    argv,
                    env=environment,
                    cwd=folder,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                    start_new_session=True,
                )
            )
        outputs = [process.communicate(text, timeout=max(0.01, deadline - time.monotonic())) for process in processes]
        return [
            subprocess.CompletedProcess(argv, process.returncode, *output)
            for argv, process, output in zip(commands, processes, outputs)
        ]
    finally:
        for process in processes:
            if process.returncode is None:
                _abandon(process)


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill a program with its children, without waiting for those that cannot be killed."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(_END_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        pass
    for stream in (process.stdin, process.stdout, process.stderr):
        try:
            if stream is not None:
                stream.close()
        except OSError:  # what it had not read
            pass
