"""The table of the engine's commands: which module holds each, and its line in `python -m giblet_train --help`.

A command is the function of its name in the module, which is imported only when the command runs. A command of a group
has the group's name in front. Adding a command: one row here, one function in the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Command(NamedTuple):
    """One row of the table."""

    module: str
    """Module of `giblet_train.cli`."""
    about: str
    """What --help says about it; "" hides it there."""


GROUPS: Mapping[str, str] = {"data": "Check a study before training on it."}

COMMANDS: Mapping[str, Command] = {
    "simulate": Command("simulate", "Create the demo study, or a study with the layout of a public data set"),
    "prepare": Command("prepare", "Build the store of a run if it does not exist"),
    "train": Command("train", "Train a run, alone or under torchrun"),
    "drill": Command("drill", "Train with a fault injected on purpose"),
    "join": Command("join", "Train this node's part of a run on several nodes"),
    "srun": Command("srun", "Train a run on all nodes of a Slurm job"),
    "watch": Command("monitoring", "Diagnose a run while it trains"),
    "verdict": Command("monitoring", "Check a run's records against its criteria"),
    "evaluate": Command("evaluation", "Evaluate a run's checkpoint on held-out data"),
    "ensemble": Command("evaluation", "Average runs per fold and evaluate the mean"),
    "lesion": Command("evaluation", "Reconstruct the film without the voxels of a region"),
    "rebuild": Command("evaluation", "Reconstruct the held-out film as a page"),
    "publish": Command("models", "Write a run's model to one file"),
    "predict": Command("models", "Predict responses to a new film with a published model"),
    "new-subject": Command("models", "Fit a published model to a new person"),
    "decode": Command("models", "Reconstruct the film from one person's responses"),
    "gpu-check": Command("gpu_check", "Check that training on this machine's GPU is correct"),
    "data discover": Command("prepare", "Propose the table of runs of a folder"),
    "data show": Command("prepare", "Print the table of runs: who saw what when"),
    "data check": Command("prepare", "Find data mistakes before training"),
    "data lag": Command("prepare", "Print the lag of each brain behind the film"),
    "data diagnose": Command("diagnose", "Check the data and train a few trial steps"),
    "data files": Command("files", ""),
}
