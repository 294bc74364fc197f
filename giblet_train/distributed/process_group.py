"""The processes of one run and their collectives.

Without torchrun there is one process, and nothing is exchanged.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from giblet_train.distributed.tensor_file import Layout, Series, layout_of
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, GibletError, RunFailed

SETUP_TIMEOUT = timedelta(hours=2)
"""Of all collectives except all-reduces: rank 0 may build a store while the others wait."""
STEP_TIMEOUT = timedelta(minutes=10)
"""Of all-reduces, which every step makes: a rank that hangs must not block the others for hours."""
T = TypeVar("T")


@dataclass
class Collectives:
    """Cost of all-reduces so far: bytes, and seconds including waiting."""

    n_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class ProcessGroup:
    """This process among `world_size`; rank 0 writes the records."""

    rank: int
    world_size: int
    device: torch.device
    wire: Collectives = field(default_factory=Collectives, compare=False)
    step_group: Any = field(default=None, compare=False)
    """torch's group of all ranks with STEP_TIMEOUT; None for the default group."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, n: int, rank: int) -> tuple[int, int]:
        """Return a rank's share of `n` items, as first and one past the last."""
        return rank * n // self.world_size, (rank + 1) * n // self.world_size

    def all_reduce_sum(self, vector: Tensor) -> Tensor:
        """Sum a vector over ranks, in place."""
        if self.world_size > 1:
            synchronize(self.device)
            began = time.perf_counter()
            with together():
                dist.all_reduce(vector, group=self.step_group)
            synchronize(self.device)
            self.wire.seconds += time.perf_counter() - began
            self.wire.n_bytes += vector.numel() * vector.element_size()
        return vector

    def barrier(self) -> None:
        """Wait until every rank has arrived."""
        if self.world_size > 1:
            with together():
                dist.barrier()

    def broadcast(self, value: T) -> T:
        """Return rank 0's value on every rank; the others may pass anything."""
        if self.world_size == 1:
            return value
        box: list[Any] = [value]
        with together():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]  # type: ignore[no-any-return]

    def on_rank_0(self, call: Callable[[], T]) -> T | None:
        """Call on rank 0; return the result there, None elsewhere. A GibletError ends the other ranks silently."""
        result: T | GibletError | None = None
        if self.is_first:
            try:
                result = call()
            except GibletError as error:
                result = error
        # The other ranks must learn of an error instead of waiting for a result.
        try:
            code = self.broadcast(result.exit_code if isinstance(result, GibletError) else None)
        except RunFailed:
            if isinstance(result, GibletError):  # rank 0's error is the cause, even if no other rank is left
                raise result from None
            raise
        if isinstance(result, GibletError):
            raise result
        if code is not None:
            sys.exit(code)
        return result

    def all_gather(self, value: T) -> list[T]:
        """Return every rank's value, in rank order, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with together():
            dist.all_gather_object(values, value)
        return values

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, in rank order, on rank 0; an empty list elsewhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] | None = [None] * self.world_size if self.is_first else None
        with together():
            dist.gather_object(value, values, dst=0)
        return values or []

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield copies of rank 0's named tensors one at a time on every rank; the others may pass anything."""
        for name, (dtype, shape) in self.broadcast(layout_of(tensors)).items():
            tensor = torch.empty(shape, dtype=dtype, device=self.device)
            if self.is_first:
                tensor.copy_(tensors[name])
            if self.world_size > 1:
                with together():
                    dist.broadcast(tensor, src=0)
            yield name, tensor

    def tensors_at_first(self, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Series:
        """Return rank 0's tensors followed by the other ranks' `own` ones, on rank 0; an empty series elsewhere.

        Collective; rank 0 must iterate over the whole series.
        """
        layouts = self.gather(layout_of(own))
        if not self.is_first:
            for tensor in own.values():
                with together():
                    dist.send(tensor.detach().contiguous(), 0)
            return Series.of({})
        layout = dict(layout_of(tensors))
        for theirs in layouts[1:]:
            layout |= theirs
        return Series(layout, self._received(tensors, layouts))

    def _received(self, tensors: Mapping[str, Tensor], layouts: Sequence[Layout]) -> Iterator[Tensor]:
        yield from tensors.values()
        for rank, theirs in enumerate(layouts[1:], 1):
            for dtype, shape in theirs.values():
                tensor = torch.empty(shape, dtype=dtype, device=self.device)
                with together():
                    dist.recv(tensor, rank)
                yield tensor


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, so that the clock measures work and not only its launch."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def together() -> Iterator[None]:
    """Turn the error of a collective into RunFailed: another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        words = str(error).splitlines()[0].split("] ")[-1].partition(". This is typically")[0]
        raise RunFailed(
            f"Another process of this run is gone, and this one cannot continue alone ({words}).",
            "Run `giblet why`; the logs of all processes are in the run's ranks/ folder.",
        ) from error


@contextmanager
def ranks_of(config: Config, step_timeout: timedelta = STEP_TIMEOUT) -> Iterator[ProcessGroup]:
    """Join the process group that torchrun describes in the environment, or return this process alone.

    Raises ConfigError if a configured GPU is missing, or if the configuration names another number of processes.
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
        yield ProcessGroup(0, 1, device)
        return
    backend = config.distributed.backend
    if backend == "auto":
        backend = "nccl" if device.type == "cuda" else "gloo"
    if backend == "nccl" and device.type != "cuda":
        raise ConfigError(
            "distributed.backend: nccl links GPUs, and these processes have none.", "Use `backend: auto`, or a GPU."
        )
    dist.init_process_group(backend, timeout=SETUP_TIMEOUT)
    try:
        yield ProcessGroup(rank, world_size, device, step_group=dist.new_group(timeout=step_timeout))
    finally:
        dist.destroy_process_group()


def device_of(config: Config, local_rank: int) -> torch.device:
    """Return the device of this node's process `local_rank`. Raises ConfigError if a configured GPU is missing."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and local_rank >= n_gpus:
        raise ConfigError(
            f"device: cuda needs a GPU for process {local_rank} of this node, but torch sees {n_gpus}.",
            "Use `device: cpu`, fewer processes, or a node whose GPUs torch can see.",
        )
    if config.device == "cpu" or not n_gpus:
        return torch.device("cpu")
    if local_rank >= n_gpus:
        raise ConfigError(f"Process {local_rank} of this node has no GPU; torch sees {n_gpus}.", "Lower world_size.")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def set_threads(config: Config, n_processes: int) -> None:
    """Share the node's cores among its processes, and set the arithmetic precision."""
    torch.set_num_threads(config.threads or max(1, len(os.sched_getaffinity(0)) // n_processes))
    # Not use_deterministic_algorithms, which imports the compiler of torch, a second of work in each process.
    torch.set_deterministic_debug_mode("warn" if config.deterministic else "default")
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # TF32 has 10 bits of mantissa: too few for the readout's Cholesky factor and for losses. bfloat16 in encoders and
    # trunk (`use_mixed_precision`) is the way to speed.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
