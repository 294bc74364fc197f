"""The programs sent to a node: the agent with the constant command that runs it, and a run's supervisor."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module

SUPERVISOR_MODULES = (
    "layout",
    "proc",
    "records",
    "gpu",
    "gpu_allocation",
    "gpu_claims",
    "gpu_state",
    "gpu_queue",
    "run_cgroup",
    "process_list",
    "exit_record",
    "supervisor",
)
"""Modules of `giblet_tui.agent` that make up `supervise.py` of a run directory, in the order they are loaded."""

LOG_READER = "giblet_train.diagnosis.log_reader"
LOG_READER_MODULES = tuple(
    f"{LOG_READER}.{name}"
    for name in (
        "number_format",
        "key_names",
        "line_prefix",
        "line_parser",
        "epoch_table",
        "collapse",
        "end_patterns",
        "end_scan",
        "reader",
    )
)
"""Modules of the engine that the agent shares, to follow the logs of adopted runs."""

AGENT_MODULES = (
    *LOG_READER_MODULES,
    *SUPERVISOR_MODULES,
    "private_dirs",
    "machine",
    "main",
    "run_command",
    "session_backend",
    "tmux",
    "screen",
    "plain_process",
    "sessions",
    "user_sessions",
    "tail",
    "run_processes",
    "host_info",
    "watch_runs",
    "python_env",
    "preflight",
    "engine_command",
    "adopted_run",
    "log_end",
    "kill",
    "resources",
    "stop_run",
    "gpu_choice",
    "start_run",
    "evaluation_jobs",
    "cleanup",
    "adopt",
    "alert_answers",
    "restore_socket",
)
"""Modules that make up the agent, in the order they are loaded; a name without a dot is of `giblet_tui.agent`."""

AGENT_COMMAND = (
    'exec /bin/sh -c \'read -r p; case $p in "~/"*) p=$HOME/${p#??};; esac; [ -x "$p" ] || p=python3;'
    ' exec "$p" -I -c "import sys;s=sys.stdin.buffer;exec(s.read(int(s.readline())))"\''
)
"""The one command giblet runs on a node: the same bytes in bash, dash, zsh, fish and tcsh.

It reads the interpreter's path (or an empty line, or one that is not there: then python3 on the node's PATH), the
length of a program, and the program.
"""


_SUPERVISOR_HEAD = '''\
"""The supervisor of this run: python3 supervise.py RUN_DIR

Made by giblet from its modules below. Standard library only, Python >= 3.8.
"""
import sys
import types

for name in ("giblet_tui", "giblet_tui.agent"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []


def load(name, source):
    full_name = "giblet_tui.agent." + name
    module = sys.modules[full_name] = types.ModuleType(full_name)
    setattr(sys.modules["giblet_tui.agent"], name, module)
    exec(compile(source, full_name, "exec"), module.__dict__)
    return module


'''


def agent_sources() -> Sequence[tuple[str, str]]:
    """Return (module name, source) of each module of the agent."""
    return [(name, _source(name)) for name in AGENT_MODULES]


def supervisor_script() -> str:
    """Return `supervise.py`: the supervisor and all that it imports in one file."""
    parts = [f"load({name!r}, r'''\n{_source(name)}''')\n\n" for name in SUPERVISOR_MODULES]
    end = 'sys.exit(sys.modules["giblet_tui.agent.supervisor"].main(sys.argv))\n'
    return "".join([_SUPERVISOR_HEAD, *parts, end])


def _source(name: str) -> str:
    return inspect.getsource(import_module(name if "." in name else f"giblet_tui.agent.{name}"))
