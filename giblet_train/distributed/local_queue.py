"""Runs that wait for one another's place: a plain queue of training processes on this machine.

Each place in the queue has one GPU where the machine has some, and none of them otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import torch
from msgspec.structs import replace

from giblet_train.schema.config import Config, DistributedConfig, diff, dump
from giblet_train.schema.ensemble_configs import PLACE_KEYS, all_folds, members
from giblet_train.schema.errors import ConfigError, DataError, Preempted, RunFailed
from giblet_train.schema.records import Heartbeat, decode
from giblet_train.schema.run_dir import RunDir, new_run_id


def train_missing_members(
    run_dirs: Sequence[Path], seeds: int, every_fold: bool, places: int, say: Callable[[str], None]
) -> list[Path]:
    """The runs given and, trained beside the first, the members of its ensemble that are not among them.

    seeds: how many in all of each fold, from the first's own upwards. every_fold: or else those of the runs given. A
    finished run of the same configuration that lies beside the first is taken as it is, and what an earlier call left
    half done goes on. Raises RunFailed, Preempted, and ConfigError for folds without a number.
    """
    given = [path.resolve() for path in run_dirs]
    configs = [RunDir(path).read_config() for path in given]
    there = {(c.seed, c.split.fold) for c in configs}
    folds = all_folds(configs[0]) if every_fold else sorted({c.split.fold for c in configs})
    grows = seeds > 1 or every_fold
    beside = _configs_beside(given) if grows else {}
    runs = list(given)
    for member in members(configs[0], seeds, folds) if grows else []:
        if (member.seed, member.split.fold) not in there:
            wanted = replace(member, distributed=DistributedConfig())
            runs.append(_found(beside, wanted) or _made(given[0].parent, wanted))
    waiting = [path for path in runs if grows and _may_train(path)]
    if waiting:
        say(f"{len(waiting)} trainings, {min(places, len(waiting))} at a time")
        train_all(waiting, places, _gpus(configs[0]), say)
    for path in runs:
        if not _finished(path):
            say(f"note: {path.name} has not finished; it counts as its checkpoint is now")
    return runs


def _configs_beside(given: Sequence[Path]) -> dict[Path, Config]:
    """The other runs in the first one's folder, of those that can be read."""
    configs = {}
    for path in sorted(set(given[0].parent.iterdir()) - set(given)):
        with suppress(ConfigError):
            configs[path] = RunDir(path).read_config()
    return configs


def _found(beside: Mapping[Path, Config], wanted: Config) -> Path | None:
    """A run that is this member: one that has finished, else one that may be trained on."""
    same = [path for path, config in beside.items() if all(key in PLACE_KEYS for key in diff(wanted, config))]
    return next((p for p in same if _finished(p)), None) or next((p for p in same if _may_train(p)), None)


def _finished(run_dir: Path) -> bool:
    try:
        return decode(RunDir(run_dir).heartbeat.read_bytes(), Heartbeat).state == "finished"
    except (OSError, DataError):
        return False


def _may_train(run_dir: Path) -> bool:
    """Was it made here, not launched, and is it not finished? What was launched is its owner's to go on with."""
    return not RunDir(run_dir).run.exists() and not _finished(run_dir)


def _made(folder: Path, wanted: Config) -> Path:
    made = RunDir(folder / new_run_id(wanted.name))
    made.path.mkdir(parents=True)
    made.config.write_text(dump(wanted))
    return made.path


def _gpus(config: Config) -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES has for them."""
    if config.device == "cpu" or not torch.cuda.is_available():
        return []
    return visible(os.environ, torch.cuda.device_count())


def visible(environment: Mapping[str, str], n_gpus: int) -> list[str]:
    """What to call each of the n_gpus that torch counts: torch numbers those that the variable names anew from 0."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    return [str(n) for n in range(n_gpus)] if named is None else [name.strip() for name in named.split(",")][:n_gpus]


def train_all(paths: Sequence[Path], places: int, gpus: Sequence[str], say: Callable[[str], None]) -> None:
    """Train run directories, `places` at a time, each with its train.log, on one of `gpus` where there are any.

    Raises RunFailed naming who failed, once the others are done; Preempted when told to end (Ctrl-C, TERM): those at
    work then save their step first.
    """
    queue = _Queue(paths, min(places, len(paths)), gpus, say)
    workers = [Thread(target=queue.work, args=(n,)) for n in range(queue.n_places)]
    with _interruptible():
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            queue.end()
            for worker in workers:
                worker.join()
            done = f"{len(queue.done)} of {len(paths)} trainings are done"
            raise Preempted(f"Told to end; {done}.", "The same command goes on from here.") from None
    if queue.failed:
        names = ", ".join(queue.failed)
        raise RunFailed(
            f"{len(queue.failed)} of {len(paths)} runs failed: {names}.",
            "See their train.log; the same command takes those that are done as they are and tries these again.",
        )


class _Queue:
    """Trainings that wait, those at work, and how the others ended."""

    def __init__(self, paths: Sequence[Path], n_places: int, gpus: Sequence[str], say: Callable[[str], None]) -> None:
        self._waiting, self._gpus, self._say = list(reversed(paths)), gpus, say
        self._at_work: dict[int, subprocess.Popen[bytes]] = {}
        self._ending = False
        self.n_places = n_places
        self.done: list[str] = []
        self.failed: list[str] = []

    def work(self, place: int) -> None:
        """Train what waits, one after another, until nothing does."""
        # What torchrun tells its processes: among how many the node's cores are to be shared.
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
                if self._ending:  # told so while this one was being started
                    self._at_work[place].terminate()
                code = self._at_work[place].wait()
            (self.failed if code else self.done).append(path.name)
            self._say(f"{path.name}: {'done' if code == 0 else f'exit {code}'}")

    def end(self) -> None:
        """Start no more, and tell those at work to save and leave."""
        self._ending = True
        self._waiting.clear()
        for process in list(self._at_work.values()):
            if process.poll() is None:
                process.terminate()


@contextmanager
def _interruptible() -> Iterator[None]:
    """TERM ends the main thread's wait as Ctrl-C does."""
    previous = {s: signal.signal(s, signal.default_int_handler) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
