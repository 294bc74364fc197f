"""The agent as a program: its modules, and the constant command that runs it on a node."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module

AGENT_MODULES = (
    "main",
    "run_command",
    "supervisor",
    "tmux",
    "screen",
    "sessions",
    "user_sessions",
    "gpu",
    "gpu_allocation",
    "gpu_state",
    "tail",
    "run_processes",
    "host_info",
    "watch_runs",
    "python_env",
    "engine_command",
    "adopted_run",
    "stop_run",
    "start_run",
    "evaluation_jobs",
    "cleanup",
    "adopt",
    "alert_answers",
    "restore_socket",
)
"""Modules of `giblet_tui.agent` that make up the agent, in the order they are loaded on the node."""

AGENT_COMMAND = (
    'exec /bin/sh -c \'read -r p; case $p in "~/"*) p=$HOME/${p#??};; esac; [ -x "$p" ] || p=python3;'
    ' exec "$p" -I -c "import sys;s=sys.stdin.buffer;exec(s.read(int(s.readline())))"\''
)
"""The one command giblet runs on a node: the same bytes in bash, dash, zsh, fish and tcsh.

It reads the interpreter's path (or an empty line, or one that is not there: then python3 on the node's PATH), the
length of a program, and the program.
"""


def agent_sources() -> Sequence[tuple[str, str]]:
    """Return (module name, source) of each module of the agent."""
    return [(name, inspect.getsource(import_module(f"giblet_tui.agent.{name}"))) for name in AGENT_MODULES]
