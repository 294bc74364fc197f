"""The programs sent to a node: the agent with the constant command that runs it, and a run's supervisor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.abc import InspectLoader
from importlib.util import find_spec

SUPERVISOR_MODULES = (
    "layout",
    "proc",
    "records",
    "run_command",
    "gpu_slices",
    "gpu_xid",
    "gpu",
    "gpu_allocation",
    "gpu_claims",
    "gpu_state",
    "gpu_queue",
    "slot_queue",
    "run_cgroup",
    "process_list",
    "exit_record",
    "supervisor",
)
"""Modules of `giblet_tui.agent` that make up `supervise.py` of a run directory, in the order they are loaded."""

COMMAND_MONITOR_MODULES = (
    "giblet_train.diagnosis.log_reader.tables",
    "giblet_train.diagnosis.log_reader.tensorboard",
    "giblet_train.diagnosis.log_reader.log_files",
    "layout",
    "proc",
    "records",
    "followed_log",
    "command_monitor",
)
"""Modules that make up `monitor.py` of a command's run directory, after those of the log reader."""

LOG_READER = "giblet_train.diagnosis.log_reader"
LOG_READER_MODULES = tuple(
    f"{LOG_READER}.{name}"
    for name in (
        "number_format",
        "loss_parts",
        "key_names",
        "observation",
        "line_shape",
        "line_prefix",
        "metric_names",
        "screen_table",
        "box_table",
        "line_parser",
        "epoch_table",
        "collapse",
        "data_wait",
        "metric_watch",
        "value_watch",
        "line_columns",
        "speed_watch",
        "exit_status",
        "traceback",
        "end_patterns",
        "stall",
        "checkpoint_mismatch",
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
    "session_backend",
    "tmux",
    "screen",
    "plain_process",
    "slurm",
    "sessions",
    "user_sessions",
    "tail",
    "run_processes",
    "host_info",
    "lab",
    "watch_runs",
    "python_env",
    "preflight",
    "engine_command",
    "followed_log",
    "adopted_run",
    "log_end",
    "kill",
    "resources",
    "stop_job",
    "stop_run",
    "gpu_choice",
    "user_command",
    "start_run",
    "evaluation_jobs",
    "cleanup",
    "adopt",
    "alert_answers",
    "restore_socket",
)
"""Modules that make up the agent, each after those that it imports; a name without a dot is of `giblet_tui.agent`."""

OPERATION_MODULES = {
    "receive": "main",
    "read": "main",
    "probe": "host_info",
    "observe": "watch_runs",
    "watch": "watch_runs",
    "runs": "watch_runs",
    "engine": "python_env",
    "setup": "python_env",
    "add_packages": "python_env",
    "interpreter": "python_env",
    "lacking": "python_env",
    "preflight": "preflight",
    "engine_command": "engine_command",
    "log_end": "log_end",
    "remains": "resources",
    "stop": "stop_run",
    "check_command": "user_command",
    "start": "start_run",
    "discard": "start_run",
    "free_port": "start_run",
    "checkpoint": "start_run",
    "inspect": "evaluation_jobs",
    "end_inspection": "evaluation_jobs",
    "holdings": "cleanup",
    "remove": "cleanup",
    "adopt": "adopt",
    "answer": "alert_answers",
    "uncover": "restore_socket",
}
"""Operation -> the module that has it: a node compiles only that one and what it imports."""

AGENT_COMMAND = (
    'exec /bin/sh -c \'read -r p; case $p in "~/"*) p=$HOME/${p#??};; esac; [ -x "$p" ] ||'
    " for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8"
    ' /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 "$HOME/miniconda3/bin/python3"'
    ' "$HOME/miniforge3/bin/python3" "$HOME/anaconda3/bin/python3" python3;'
    ' do command -v "$p" >/dev/null && break; done;'
    ' exec "$p" -I -c "import sys;s=sys.stdin.buffer;exec(s.read(int(s.readline())))"\''
)
"""The one command giblet runs on a node: the same bytes in bash, dash, zsh, fish and tcsh.

It reads the interpreter's path (or an empty line, or one that is not there: then python3 on the node's PATH, a
python3.N, or one that a distribution or conda installs elsewhere), the length of a program, and the program.
"""


_SCRIPT_HEAD = '''\
"""{what}

Made by giblet from its modules below. Standard library only, Python >= 3.8.
"""
import sys
import types


def package(name):
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
        parent, dot, own = name.rpartition(".")
        if dot:
            setattr(package(parent), own, sys.modules[name])
    return sys.modules[name]


def load(name, source):
    parent, _, own = name.rpartition(".")
    module = types.ModuleType(name)
    setattr(package(parent), own, module)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return module


'''


@cache
def agent_sources() -> Mapping[str, str]:
    """Return full module name -> source of each module of the agent."""
    return {full_name(name): _source(name) for name in AGENT_MODULES}


def supervisor_script() -> str:
    """Return `supervise.py`: the supervisor and all that it imports in one file."""
    return _script("The supervisor of this run: python3 supervise.py RUN_DIR", SUPERVISOR_MODULES)


def command_monitor_script() -> str:
    """Return `monitor.py`: the monitor of a command and all that it imports in one file."""
    modules = (*LOG_READER_MODULES, *COMMAND_MONITOR_MODULES)
    return _script("Follows the command of this run: python3 monitor.py RUN_DIR [WATCHER...]", modules)


def _script(what: str, modules: Sequence[str]) -> str:
    """Return a program of several modules in one file; the last one has its `main`."""
    parts = [f"load({full_name(name)!r}, r'''\n{_source(name)}''')\n\n" for name in modules]
    end = f"sys.exit(sys.modules[{full_name(modules[-1])!r}].main(sys.argv))\n"
    return "".join([_SCRIPT_HEAD.format(what=what), *parts, end])


def full_name(name: str) -> str:
    """Return the name by which a module of the agent is imported."""
    return name if "." in name else f"giblet_tui.agent.{name}"


def _source(name: str) -> str:
    """Return the source of a module without importing it."""
    spec = find_spec(full_name(name))
    assert spec is not None and isinstance(spec.loader, InspectLoader)
    source = spec.loader.get_source(spec.name)
    assert source is not None
    return source
