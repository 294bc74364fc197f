"""The processes of one run: who they are, and the few words they exchange.

A step needs one sum over ranks: gradients, losses and wishes (stop, not finite) travel in the same vector, so ranks can
never disagree about what happened. Without torchrun there is one process, and nothing is sent.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from giblet_train.contract.config import Config
from giblet_train.contract.errors import ConfigError, RunFailed

PATIENCE = timedelta(hours=2)  # rank 0 may build a store while the others wait
T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `world_size`; rank 0 holds the pen."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, n: int) -> tuple[int, int]:
        """This rank's part of `n` things, as first and one past the last."""
        return self.rank * n // self.world_size, (self.rank + 1) * n // self.world_size

    def sum_(self, vector: Tensor) -> Tensor:
        """The vector summed over ranks, in place."""
        if self.world_size > 1:
            with together():
                dist.all_reduce(vector)
        return vector

    def wait(self) -> None:
        """Until every rank is here."""
        if self.world_size > 1:
            with together():
                dist.barrier()

    def from_first(self, value: T) -> T:
        """Rank 0's value, on every rank; the others may pass anything."""
        if self.world_size == 1:
            return value
        box: list[Any] = [value]
        with together():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]  # type: ignore[no-any-return]


@contextmanager
def together() -> Iterator[None]:
    """What all ranks do at once. Raises RunFailed when one of them is gone."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).splitlines()[0].split("] ")[-1]
        raise RunFailed(
            f"Another process of this run is gone, and this one cannot go on alone ({words}).",
            "Its own words are in the run's ranks/ folder; `giblet why` reads them.",
        ) from error


@contextmanager
def ranks_of(config: Config) -> Iterator[Ranks]:
    """The process group that torchrun describes in the environment, or this process alone.

    Raises ConfigError when a GPU is asked for where none is, or the configuration names another number of processes.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if world_size != config.distributed.world_size:
        raise ConfigError(
            f"distributed.world_size is {config.distributed.world_size}, but {world_size} process(es) were started.",
            f"Start it with `torchrun --nproc-per-node {config.distributed.world_size}`, or by `giblet launch`.",
        )
    device = device_of(config, int(os.environ.get("LOCAL_RANK", "0")))
    set_threads(config, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if world_size == 1:
        yield Ranks(0, 1, device)
        return
    backend = config.distributed.backend
    if backend == "auto":
        backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(rank, world_size, device)
    finally:
        dist.destroy_process_group()


def device_of(config: Config, local_rank: int) -> torch.device:
    """The device of this node's process `local_rank`. Raises ConfigError when a GPU is asked for where none is."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and local_rank >= n_gpus:
        raise ConfigError(
            f"device: cuda is asked for process {local_rank} of this node, which shows {n_gpus} GPU(s).",
            "Use `device: cpu`, fewer processes, or a node whose GPUs torch can see.",
        )
    if config.device == "cpu" or not n_gpus:
        return torch.device("cpu")
    if local_rank >= n_gpus:
        raise ConfigError(f"Process {local_rank} of this node has no GPU; torch sees {n_gpus}.", "Lower world_size.")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def set_threads(config: Config, n_processes: int) -> None:
    """Share the node's cores among its processes, and choose how exact arithmetic is."""
    torch.set_num_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // n_processes))
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_float32_matmul_precision("highest" if config.deterministic else "high")
