"""Names of the files in a working directory and in a run directory, and what is derived from a run id.

Used by every part of giblet; a test compares it with `giblet_train.schema.run_dir`, which the engine uses. Part of the
agent: standard library only, Python >= 3.8.
"""

from __future__ import annotations

import os
import re

RUNS = "runs"
ENVIRONMENTS = "envs"
INSPECTIONS = "inspections"

RUN = "run.json"
CONFIG = "config.yaml"
SUPERVISOR = "supervisor.json"
HEARTBEAT = "heartbeat.json"
EXIT = "exit.json"
CAUSE = "cause.json"
BRAIN = "brain.json"
METRICS = "metrics.jsonl"
ALERTS = "alerts.jsonl"
ANSWERS = "answers.jsonl"
LOG = "train.log"
STOP = "stop"
PROCESSES = "processes.json"
"""The run's processes, for a stop after its supervisor was killed."""
RANKS = "ranks"
CHECKPOINTS = "checkpoints"
REPORT = "report"
SLURM_OUTPUT = "slurm.out"
"""What Slurm itself prints about the job."""

SUPERVISOR_SCRIPT = "supervise.py"
COMMAND_MONITOR_SCRIPT = "monitor.py"
"""Follows the output of a command; in the run directories of commands only."""
ENVIRONMENT = "environment.json"
"""Variables of a command's environment; apart from run.json because a value may be a secret."""
COMMAND_LOG = "giblet_log.jsonl"
"""Metrics that a command writes with `giblet_train.log`."""
WORK = "work"
"""The working directory that was sent with a command."""
PUSHED = "pushed"
"""Single files that were sent with a command."""
UNCOMMITTED = "uncommitted.patch"
"""Difference of the directory that was sent from its git commit."""
SOURCES = "sources"
"""Folder of a working directory for what is sent with commands, until their start has unpacked it."""
LAUNCH_SCRIPT = "launch.sh"
MONITOR = "keeper.json"
"""Written by the monitor of an adopted run; marks the run as adopted."""
MONITOR_LOG = "keeper.log"

RUN_ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,39}-\d{8}-\d{6}-[0-9a-f]{4}$"
SESSION_PREFIX = "gib-"
MARK_VARIABLE = "GIBLET_RUN_ID"
"""Environment variable by which a process is recognised as part of a run."""


def is_run_id(text: str) -> bool:
    """Return True if the text is a run id. Only such text may become part of a path or a session's name."""
    return re.fullmatch(RUN_ID_PATTERN.rstrip("$"), text) is not None


def session_name(run_id: str) -> str:
    """Return the name of the session that holds a run."""
    return SESSION_PREFIX + run_id


def runs_dir(workdir: str) -> str:
    """Return the folder of a working directory's runs."""
    return os.path.join(workdir, RUNS)


def run_dir(workdir: str, run_id: str) -> str:
    """Return the directory of a run."""
    return os.path.join(workdir, RUNS, run_id)


def gpu_lock(workdir: str) -> str:
    """Return the file whose lock is held while a waiting run takes GPUs of this machine."""
    return os.path.join(workdir, ".gpus-%s.lock" % os.uname().nodename)
