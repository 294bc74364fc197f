"""Whose heads a rank holds, and what ranks exchange so that every head sees every window.

Sharded, rank r of n owns subjects r, r + n, …: their targets, heads, averages and moments lie there and nowhere else.
Encoders, trunk and decoders are replicated and take the rank's own windows. Latents of all windows then travel to the
heads, and what a readout needs of all heads travels back as two sums. Replicated, or alone, nothing of it travels.

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
"""In the name of every tensor that belongs to one subject's head, in the model as in what is kept of it."""
Size = TypeVar("Size", int, float, NDArray[np.float64])
T = TypeVar("T")


@dataclass(frozen=True)
class HeadSharding:
    """Which of the subjects, in order, are this rank's own: all of them where heads are replicated."""

    ranks: ProcessGroup
    subjects: tuple[str, ...]
    sharded: bool = False

    @classmethod
    def of(cls, config: Config, subjects: Sequence[str], ranks: ProcessGroup) -> HeadSharding:
        """Heads of which each belongs to one subject are shared out; a group's or a dense network's are not."""
        own_heads = config.model.kind == "trunk" and config.model.compress != "joint"
        return cls(ranks, tuple(subjects), own_heads and ranks.world_size > 1)

    @property
    def local_subjects(self) -> tuple[str, ...]:
        """Subjects whose heads this rank holds; none where ranks outnumber subjects."""
        return self.subjects[self.ranks.rank :: self.ranks.world_size] if self.sharded else self.subjects

    @property
    def evaluates(self) -> bool:
        """Does this rank take part in looking at held-out TRs? Rank 0 does it alone where it has all heads."""
        return self.sharded or self.ranks.is_first

    def is_local(self, name: str) -> bool:
        """Is the tensor of this name here alone, or a copy of what every rank has?"""
        return self.sharded and HEADS in name

    def total(self, own: Size) -> Size:
        """The sum over ranks of what concerns each rank's own subjects."""
        if not self.sharded:
            return own
        if isinstance(own, np.ndarray):
            return self.ranks.all_reduce_sum(torch.from_numpy(own).to(self.ranks.device)).cpu().numpy()
        return type(own)(
            self.ranks.all_reduce_sum(torch.tensor(float(own), dtype=torch.float64, device=self.ranks.device)).item()
        )

    def total_of(self, sizes: Mapping[str, int]) -> int:
        """The sum over named tensors, wherever they are; what every rank has counts once."""
        own = sum(n for name, n in sizes.items() if self.is_local(name))
        return sum(sizes.values()) - own + self.total(own)

    def gather_by_subject(self, own: Mapping[str, T]) -> dict[str, T]:
        """What each rank knows by its own subjects' names, on every rank, in the subjects' order."""
        if not self.sharded:
            return dict(own)
        each = {name: value for part in self.ranks.all_gather(dict(own)) for name, value in part.items()}
        return {name: each[name] for name in self.subjects}

    def from_rank_0(self, value: T) -> T:
        """Rank 0's of what each rank has found alike but for rounding, which may differ between processors."""
        return self.ranks.broadcast(value) if self.sharded else value

    def gather_to_rank_0(self, found: T) -> list[T]:
        """On rank 0, what the other ranks have found of their own subjects; nothing elsewhere."""
        return self.ranks.gather(found)[1:] if self.sharded else []

    def whole(self, batch: Batch) -> RankBatch:
        """A pass over windows that every rank takes alike, each for its own heads."""
        return RankBatch(batch, batch, slice(0, len(batch.index_BW)), self)

    def portions(self, batch: Batch, n_pieces: int) -> Iterator[tuple[RankBatch, int, int]]:
        """This rank's windows of a step, in n_pieces passes, each with its first window and one past its last.

        The pieces of all ranks with the same number are one pass.
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
    """The windows of one pass. own: of encoders, trunk and decoders here. all_: of the heads. rows: own in all_."""

    local_subjects: Batch
    all_: Batch
    rows: slice
    shards: HeadSharding

    def for_heads(self, z_BWK: Tensor) -> Tensor:
        """The latents of all windows (A, W, K), from each rank's own."""
        if self.local_subjects is self.all_:
            return z_BWK
        before, after = self.rows.start, len(self.all_.index_BW) - self.rows.stop
        return self._sum(torch.nn.functional.pad(z_BWK, (0, 0, 0, 0, before, after)))

    def for_decoders(self, normal_KK: Tensor, seen: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """`heads.readout`'s sums over all subjects, from those over own ones: W Wᵀ, and s Wᵀ of own windows.

        seen: (A, W, K) of each source of brains.
        """
        if not self.shards.sharded:
            return normal_KK, list(seen)
        parts = [normal_KK, *seen]
        flat = self._sum(torch.cat([part.flatten() for part in parts]))
        normal_KK, *seen = (
            x.view_as(p) for x, p in zip(torch.split(flat, [p.numel() for p in parts]), parts, strict=True)
        )
        return normal_KK, [seen_AWK[self.rows] for seen_AWK in seen]

    def _sum(self, x: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(x, self.shards.ranks)  # type: ignore[no-untyped-call]
        return summed


class _Sum(torch.autograd.Function):
    """The sum over ranks, which is its own transpose: gradients of the copies are summed, too."""

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
