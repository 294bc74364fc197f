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
from msgspec.structs import replace

from giblet_train.contract.config import Config, SplitConfig, dump
from giblet_train.contract.errors import ConfigError, RunFailed
from giblet_train.contract.rundir import RunDir, new_run_id


def grown(
    run_dirs: Sequence[Path],
    seeds: int,
    all_folds: bool,
    places: int,
    count_blocks: Callable[[Config], int],
    say: Callable[[str], None],
) -> list[Path]:
    """The runs given and, trained beside the first, those of its seeds and folds that are not among them.

    seeds: how many in all from the first's own upwards. Each has the next of its fold's validation blocks, of which
    there are count_blocks: between them they learn from every TR that is not tested on. Raises RunFailed, and
    ConfigError for folds without a number.
    """
    given = [path.resolve() for path in run_dirs]
    config = RunDir(given[0]).read_config()
    if all_folds and config.split.kind != "blocks":
        raise ConfigError("--all-folds counts blocks; this run leaves out scans.", "Give a run for each scan.")
    configs = [RunDir(path).read_config() for path in given]
    there = {(c.seed, c.split.fold) for c in configs}
    folds = range(config.split.n_folds) if all_folds else sorted({c.split.fold for c in configs})
    made = []
    for fold in folds if seeds > 1 or all_folds else ():
        split = replace(config.split, fold=fold, validation_block=0)
        n_blocks = count_blocks(replace(config, split=split))
        for n in range(seeds):
            block = (config.split.validation_block + n) % n_blocks
            if (config.seed + n, fold) not in there:
                made.append(_made(given[0], config, config.seed + n, replace(split, validation_block=block)))
    if made:
        gpus = torch.cuda.device_count() if config.device != "cpu" and torch.cuda.is_available() else 0
        say(f"{len(made)} trainings, {min(places, len(made))} at a time")
        train_all(made, places, gpus, say)
    return [*given, *made]


def _made(run_dir: Path, config: Config, seed: int, split: SplitConfig) -> Path:
    made = RunDir(run_dir.parent / new_run_id(config.name))
    made.path.mkdir(parents=True)
    made.config.write_text(dump(replace(config, seed=seed, split=split, resume_from=None)))
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
