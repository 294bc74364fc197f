"""Shard the subjects' heads over ranks, and exchange what lets every head see every window.

Sharded, rank r of n owns subjects r, r + n, …: their targets, heads, averages and moments are stored only there.
Encoders, trunk and decoders are replicated and process the rank's own windows. The latents of all windows are then sent
to the heads, and a readout receives two sums over all heads. Nothing is exchanged with replicated heads or one rank.

B windows of this rank, A windows of all ranks in the same pass, W window TRs, K latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.components.batches import Batch
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.config import Config

HEADS = "heads."
"""Part of the name of every tensor of a subject's head, in the model, its average and the optimizer."""
Size = TypeVar("Size", int, float, NDArray[np.float64])
T = TypeVar("T")


@dataclass(frozen=True)
class HeadSharding:
    """Which subjects' heads this rank holds: all of them if heads are replicated."""

    ranks: ProcessGroup
    subjects: tuple[str, ...]
    sharded: bool = False

    @classmethod
    def of(cls, config: Config, subjects: Sequence[str], ranks: ProcessGroup) -> HeadSharding:
        """Shard heads that belong to one subject each; replicate those of a group or of a dense network."""
        own_heads = config.model.kind == "trunk" and config.model.compress != "joint"
        return cls(ranks, tuple(subjects), own_heads and ranks.world_size > 1)

    @property
    def local_subjects(self) -> tuple[str, ...]:
        """Return the subjects whose heads this rank holds; none if there are more ranks than subjects."""
        return self.subjects[self.ranks.rank :: self.ranks.world_size] if self.sharded else self.subjects

    @property
    def evaluates(self) -> bool:
        """Return True if this rank takes part in evaluation. Rank 0 does it alone if it has all heads."""
        return self.sharded or self.ranks.is_first

    def is_local(self, name: str) -> bool:
        """Return True if the tensor of this name exists on this rank only."""
        return self.sharded and HEADS in name

    def total(self, own: Size) -> Size:
        """All-reduce a sum over local subjects."""
        if not self.sharded:
            return own
        if isinstance(own, np.ndarray):
            return self.ranks.all_reduce_sum(torch.from_numpy(own).to(self.ranks.device)).cpu().numpy()
        return type(own)(
            self.ranks.all_reduce_sum(torch.tensor(float(own), dtype=torch.float64, device=self.ranks.device)).item()
        )

    def total_of(self, sizes: Mapping[str, int]) -> int:
        """Sum sizes of named tensors over ranks; replicated tensors count once."""
        own = sum(n for name, n in sizes.items() if self.is_local(name))
        return sum(sizes.values()) - own + self.total(own)

    def gather_by_subject(self, own: Mapping[str, T]) -> dict[str, T]:
        """All-gather a mapping keyed by local subjects, in the subjects' order."""
        if not self.sharded:
            return dict(own)
        by_subject = {name: value for part in self.ranks.all_gather(dict(own)) for name, value in part.items()}
        return {name: by_subject[name] for name in self.subjects}

    def from_rank_0(self, value: T) -> T:
        """Broadcast rank 0's copy, because ranks compute it with different rounding."""
        return self.ranks.broadcast(value) if self.sharded else value

    def gather_to_rank_0(self, value: T) -> list[T]:
        """Return the other ranks' values on rank 0, and an empty list elsewhere."""
        return self.ranks.gather(value)[1:] if self.sharded else []

    def whole(self, batch: Batch) -> RankBatch:
        """Return a pass in which every rank processes the same windows, each for its own heads."""
        return RankBatch(batch, batch, slice(0, len(batch.index_BW)), self)

    def portions(self, batch: Batch, n_pieces: int) -> Iterator[tuple[RankBatch, int, int]]:
        """Yield this rank's windows of a step in n_pieces passes, each with its first window and one past its last.

        The pieces with the same number on all ranks form one pass.
        """
        spans = [
            _pieces(*self.ranks.share(len(batch.index_BW), rank), n_pieces) for rank in range(self.ranks.world_size)
        ]
        for pass_ in zip(*spans, strict=True):
            start, stop = pass_[self.ranks.rank]
            own = batch.rows(start, stop)
            if not self.sharded:
                yield self.whole(own), start, stop
                continue
            first = sum(b - a for a, b in pass_[: self.ranks.rank])
            all_ = Batch.joined([batch.rows(a, b) for a, b in pass_])
            yield RankBatch(own, all_, slice(first, first + stop - start), self), start, stop


@dataclass(frozen=True)
class RankBatch:
    """The windows of one pass."""

    own: Batch
    """Windows that this rank's encoders, trunk and decoders process."""
    all_: Batch
    """Windows that the heads process: those of all ranks if heads are sharded."""
    rows: slice
    """Position of the own windows in all_."""
    shards: HeadSharding

    def for_heads(self, z_BWK: Tensor) -> Tensor:
        """Return the latents of all windows (A, W, K) from each rank's own."""
        if self.own is self.all_:
            return z_BWK
        before, after = self.rows.start, len(self.all_.index_BW) - self.rows.stop
        return self._sum(torch.nn.functional.pad(z_BWK, (0, 0, 0, 0, before, after)))

    def for_decoders(self, normal_KK: Tensor, projections: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the readout's sums over all subjects from those over local ones: W Wᵀ, and s Wᵀ of own windows.

        projections: s Wᵀ (A, W, K) of each source of brains.
        """
        if not self.shards.sharded:
            return normal_KK, list(projections)
        parts = [normal_KK, *projections]
        flat = self._sum(torch.cat([part.flatten() for part in parts]))
        normal_KK, *summed = (
            x.view_as(p) for x, p in zip(torch.split(flat, [p.numel() for p in parts]), parts, strict=True)
        )
        return normal_KK, [projected_AWK[self.rows] for projected_AWK in summed]

    def _sum(self, x: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(x, self.shards.ranks)  # type: ignore[no-untyped-call]
        return summed


class _Sum(torch.autograd.Function):
    """Sum over ranks. It is its own transpose: the gradients of the copies are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: ProcessGroup) -> Tensor:
        ctx.ranks = ranks
        return ranks.all_reduce_sum(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.all_reduce_sum(gradient.clone(memory_format=torch.contiguous_format)), None


def _pieces(first: int, last: int, n_pieces: int) -> Sequence[tuple[int, int]]:
    n = last - first
    return [(first + i * n // n_pieces, first + (i + 1) * n // n_pieces) for i in range(n_pieces)]
