"""Runs that wait for one another's place: a plain queue of training processes on this machine.

Each place in the queue has one GPU where the machine has some, and none of them otherwise.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

import torch

from giblet_train.contract.config import Config, dump
from giblet_train.contract.ensemble import all_folds, members
from giblet_train.contract.errors import RunFailed
from giblet_train.contract.rundir import RunDir, new_run_id


def grown(
    run_dirs: Sequence[Path], seeds: int, every_fold: bool, places: int, say: Callable[[str], None]
) -> list[Path]:
    """The runs given and, trained beside the first, the members of its ensemble that are not among them.

    seeds: how many in all of each fold, from the first's own upwards. every_fold: or else those of the runs given.
    Raises RunFailed, and ConfigError for folds without a number.
    """
    given = [path.resolve() for path in run_dirs]
    configs = [RunDir(path).read_config() for path in given]
    there = {(c.seed, c.split.fold) for c in configs}
    folds = all_folds(configs[0]) if every_fold else sorted({c.split.fold for c in configs})
    wanted = members(configs[0], seeds, folds) if seeds > 1 or every_fold else []
    made = [_made(given[0].parent, config) for config in wanted if (config.seed, config.split.fold) not in there]
    if made:
        on_cpu = configs[0].device == "cpu" or not torch.cuda.is_available()
        say(f"{len(made)} trainings, {min(places, len(made))} at a time")
        train_all(made, places, 0 if on_cpu else torch.cuda.device_count(), say)
    return [*given, *made]


def _made(folder: Path, config: Config) -> Path:
    made = RunDir(folder / new_run_id(config.name))
    made.path.mkdir(parents=True)
    made.config.write_text(dump(config))
    return made.path


def train_all(paths: Sequence[Path], places: int, gpus: int, say: Callable[[str], None]) -> None:
    """Train run directories, `places` at a time, each with its train.log. Raises RunFailed naming who failed."""
    waiting: SimpleQueue[Path] = SimpleQueue()
    for path in paths:
        waiting.put(path)
    failed: list[str] = []

    def work(place: int) -> None:
        while True:
            try:
                path = waiting.get_nowait()
            except Empty:
                return
            gpu = {"CUDA_VISIBLE_DEVICES": str(place % gpus)} if gpus else {}
            with open(path / "train.log", "ab") as log:
                command = [sys.executable, "-m", "giblet_train", "train", str(path)]
                code = subprocess.call(command, stdout=log, stderr=log, env=os.environ | gpu)
            say(f"{path.name}: {'done' if code == 0 else f'exit {code}'}")
            if code:
                failed.append(path.name)

    workers = [Thread(target=work, args=(n,)) for n in range(min(places, len(paths)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        raise RunFailed(f"{len(failed)} of {len(paths)} runs failed: {', '.join(failed)}.", "See their train.log.")
