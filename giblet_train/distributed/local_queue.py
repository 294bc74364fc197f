"""Run training processes on this machine in a plain queue.

Each place in the queue has one GPU if the machine has any.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from msgspec.structs import replace

from giblet_train.schema.config import Config, DistributedConfig, diff, dump
from giblet_train.schema.ensemble_configs import PLACE_KEYS, all_folds, members
from giblet_train.schema.errors import ConfigError, DataError, Preempted, RunFailed
from giblet_train.schema.records import Heartbeat, decode
from giblet_train.schema.run_dir import RunDir, new_run_id


def train_missing_members(
    run_dirs: Sequence[Path], seeds: int, every_fold: bool, places: int, report: Callable[[str], None]
) -> list[Path]:
    """Train the members of the first run's ensemble that are not in `run_dirs`; return all of them.

    Finished runs of the same configuration next to the first are used as they are, and unfinished ones of an earlier
    call are resumed. Raises RunFailed, Preempted, and ConfigError for folds without a number.

    Args:
        seeds: number of seeds per fold, counted from the first run's seed.
        every_fold: train all folds instead of those of `run_dirs`.
        places: number of trainings at a time.
    """
    paths = [path.resolve() for path in run_dirs]
    configs = [RunDir(path).read_config() for path in paths]
    members_present = {(c.seed, c.split.fold) for c in configs}
    folds = all_folds(configs[0]) if every_fold else sorted({c.split.fold for c in configs})
    grows = seeds > 1 or every_fold
    neighbours = _neighbouring_configs(paths) if grows else {}
    runs = list(paths)
    for member in members(configs[0], seeds, folds) if grows else []:
        if (member.seed, member.split.fold) not in members_present:
            config = replace(member, distributed=DistributedConfig())
            runs.append(_find_run(neighbours, config) or _create_run(paths[0].parent, config))
    waiting = [path for path in runs if grows and _may_train(path)]
    if waiting:
        report(f"{len(waiting)} trainings, {min(places, len(waiting))} at a time")
        train_all(waiting, places, _gpus(configs[0]), report)
    for path in runs:
        if not _finished(path):
            report(f"note: {path.name} has not finished; its current checkpoint is used")
    return runs


def _neighbouring_configs(paths: Sequence[Path]) -> dict[Path, Config]:
    """Return the configurations of the other readable runs in the first run's folder."""
    configs = {}
    for path in sorted(set(paths[0].parent.iterdir()) - set(paths)):
        with suppress(ConfigError):
            configs[path] = RunDir(path).read_config()
    return configs


def _find_run(neighbours: Mapping[Path, Config], config: Config) -> Path | None:
    """Return a run of this configuration: a finished one, else one that may be trained further."""
    same = [path for path, other in neighbours.items() if all(key in PLACE_KEYS for key in diff(config, other))]
    return next((p for p in same if _finished(p)), None) or next((p for p in same if _may_train(p)), None)


def _finished(run_dir: Path) -> bool:
    try:
        return decode(RunDir(run_dir).heartbeat.read_bytes(), Heartbeat).state == "finished"
    except (OSError, DataError):
        return False


def _may_train(run_dir: Path) -> bool:
    """Return True if the run is unfinished and was created here; launched runs are left to their owner."""
    return not RunDir(run_dir).run.exists() and not _finished(run_dir)


def _create_run(folder: Path, config: Config) -> Path:
    run_dir = RunDir(folder / new_run_id(config.name))
    run_dir.path.mkdir(parents=True)
    run_dir.config.write_text(dump(config))
    return run_dir.path


def _gpus(config: Config) -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if config.device == "cpu" or not torch.cuda.is_available():
        return []
    return visible(os.environ, torch.cuda.device_count())


def visible(environment: Mapping[str, str], n_gpus: int) -> list[str]:
    """Return the names of the n_gpus that torch counts; torch renumbers the GPUs of the variable from 0."""
    devices = environment.get("CUDA_VISIBLE_DEVICES")
    return (
        [str(n) for n in range(n_gpus)] if devices is None else [name.strip() for name in devices.split(",")][:n_gpus]
    )


def train_all(paths: Sequence[Path], places: int, gpus: Sequence[str], report: Callable[[str], None]) -> None:
    """Train run directories, `places` at a time, each with its own train.log, on one of `gpus` if there are any.

    Raises RunFailed naming the failed runs once the others are done, and Preempted on Ctrl-C or TERM, after the running
    trainings have saved.
    """
    queue = _Queue(paths, min(places, len(paths)), gpus, report)
    with _interruptible(), ThreadPoolExecutor(queue.n_places) as pool:
        workers = [pool.submit(queue.work, place) for place in range(queue.n_places)]
        try:
            # Not Thread.join: once a signal interrupts it, CPython takes the thread for ended and waits no more.
            _wait(workers)
        except KeyboardInterrupt:
            queue.end()
            _wait(workers)
            progress = f"{len(queue.done)} of {len(paths)} trainings are done"
            raise Preempted(f"Interrupted; {progress}.", "Repeat the command to continue.") from None
    if queue.failed:
        names = ", ".join(queue.failed)
        raise RunFailed(
            f"{len(queue.failed)} of {len(paths)} runs failed: {names}.",
            "See their train.log; repeat the command to try them again. Finished runs are kept.",
        )


def _wait(workers: Sequence[Future[None]]) -> None:
    """Wait for all workers; raise what one of them raised."""
    wait(workers)
    for worker in workers:
        worker.result()


class _Queue:
    """Waiting, running and finished trainings."""

    def __init__(
        self, paths: Sequence[Path], n_places: int, gpus: Sequence[str], report: Callable[[str], None]
    ) -> None:
        self._waiting, self._gpus, self._report = list(reversed(paths)), gpus, report
        self._at_work: dict[int, subprocess.Popen[bytes]] = {}
        self._ending = False
        self.n_places = n_places
        self.done: list[str] = []
        self.failed: list[str] = []

    def work(self, place: int) -> None:
        """Train waiting runs one after another until none is left."""
        # As torchrun does: how many processes share the node's cores.
        environment = os.environ | {"LOCAL_WORLD_SIZE": str(self.n_places)}
        if self._gpus:
            environment |= {"CUDA_VISIBLE_DEVICES": self._gpus[place % len(self._gpus)]}
        while True:
            try:
                path = self._waiting.pop()
            except IndexError:
                return
            command = [sys.executable, "-m", "giblet_train", "train", str(path)]
            with open(path / "train.log", "ab") as log:
                self._at_work[place] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
                if self._ending:  # the request came while this one was being started
                    self._at_work[place].terminate()
                code = self._at_work[place].wait()
            (self.failed if code else self.done).append(path.name)
            self._report(f"{path.name}: {'done' if code == 0 else f'exit {code}'}")

    def end(self) -> None:
        """Start no more trainings, and terminate the running ones, which save first."""
        self._ending = True
        self._waiting.clear()
        for process in list(self._at_work.values()):
            if process.poll() is None:
                process.terminate()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make TERM end the main thread's wait as Ctrl-C does."""
    previous = {s: signal.signal(s, signal.default_int_handler) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
