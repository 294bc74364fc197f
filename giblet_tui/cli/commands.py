"""The table of all commands: which module holds each, and its line in `giblet --help`.

The order is that of a working day. A command's module is imported only when the command runs, so the module may import
whatever it needs at its top. Adding a command: one row here, one function under `@command` in the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """One row of the table."""

    module: str
    """Module of `giblet_tui.cli` that registers the command."""
    about: str
    """What `giblet --help`, the shell's completion and the dashboard's palette say about it."""


COMMANDS: Mapping[str, Command] = {
    "demo": Command("demo", "Make a demo study, train on it on this machine, watch and judge the run"),
    "init": Command("init", "Write a configuration for a folder with a film and scans"),
    "launch": Command("launch", "Start a run on a node and wait for its first step"),
    "ps": Command("ps", "List runs with state, losses, verdict and time left"),
    "status": Command("runs", "Show the state of one run"),
    "logs": Command("logs", "Print the end of a run's log, or follow it until the run ends"),
    "dashboard": Command("dashboard", "Watch all nodes and runs live, full screen; also bare `giblet`"),
    "wait": Command("wait", "Wait until runs have ended"),
    "verdict": Command("runs", "Compare a run with its success criteria"),
    "why": Command("why", "List likely causes of a problem, with evidence and remedy"),
    "alerts": Command("alerts", "Show the alerts of a run, acknowledge or snooze them"),
    "report": Command("report", "Write a report of one run, or of all recent runs"),
    "brain": Command("brain", "Show a run's brain maps in the terminal"),
    "compare": Command("compare", "Compare runs: configuration, losses, results"),
    "sweep": Command("sweep", "Show the runs of a sweep as one table, and the best one"),
    "promote": Command("stages", "Start the next stage for a run that passed"),
    "ladder": Command("stages", "List all runs by stage, with verdict, cost and origin"),
    "stop": Command("stop", "Stop runs and prove that no process, session or GPU memory is left"),
    "adopt": Command("adopt", "Monitor and stop a screen or tmux session that was started by hand"),
    "rm": Command("cleanup", "Remove ended runs from their nodes"),
    "prune": Command("cleanup", "Remove old runs and unused environments from a node"),
    "evaluate": Command("evaluation", "Evaluate a run's checkpoint on held-out data"),
    "lesion": Command("evaluation", "Reconstruct the film without the voxels of a region"),
    "rebuild": Command("evaluation", "Reconstruct the held-out film as a page with pictures and sound"),
    "ensemble": Command("evaluation", "Average several runs and evaluate the mean"),
    "publish": Command("evaluation", "Write a run's model to one file for other people"),
    "predict": Command("models", "Predict responses to a new film with a published model"),
    "new-subject": Command("models", "Fit a published model to a new person"),
    "decode": Command("models", "Reconstruct the film from one person's responses"),
    "attach": Command("attach", "Open the terminal of a run's tmux or screen session"),
    "pull": Command("attach", "Copy a run's records, log and checkpoints to this machine"),
    "export": Command("export", "Write a run's screen as a picture, or its records for other programs"),
    "setup": Command("nodes", "Install this version of giblet on a node"),
    "doctor": Command("nodes", "Check whether a node can run a configuration"),
    "data": Command("data", "Check a study before training on it"),
    "node": Command("nodes", "Add, list, check and remove nodes"),
    "config": Command("configs", "List, show, compare, check and convert configurations"),
    "mcp": Command("mcp", "Offer runs to a program that speaks the Model Context Protocol"),
    "confirm": Command("mcp", "Decide on a change that such a program asked for"),
    "version": Command("version", "Print the versions of giblet here and of the engine on a node"),
}

SYNONYMS: Mapping[str, str] = {
    "help": "--help", "completion": "--install-completion",
    "run": "launch", "start": "launch", "train": "launch", "submit": "launch", "resume": "launch", "restart": "launch",
    "list": "ps", "ls": "ps", "runs": "ps", "queue": "ps", "squeue": "ps", "info": "status", "show": "status",
    "log": "logs", "tail": "logs", "watch": "dashboard", "top": "dashboard", "monitor": "dashboard", "tui": "dashboard",
    "judge": "verdict", "explain": "why", "diagnose": "why", "diff": "compare",
    "kill": "stop", "cancel": "stop", "scancel": "stop", "end": "stop",
    "remove": "rm", "delete": "rm", "del": "rm", "clean": "prune", "gc": "prune",
    "eval": "evaluate", "test": "evaluate", "reconstruct": "rebuild", "download": "pull", "fetch": "pull",
    "copy": "pull", "ssh": "attach", "join": "attach", "install": "setup", "deploy": "setup", "check": "doctor",
    "nodes": "node", "hosts": "node", "configs": "config", "csv": "export", "screenshot": "export",
}  # fmt: skip
"""Words that people type for a command, taken from git, Slurm, Docker and plain English."""
