"""Sample the windows of a step from seed and step alone, so that no sampling order has to be saved.

B windows, W window TRs: first context, which is not scored, then scored TRs. T TRs of the study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

Block = tuple[int, int]


@dataclass(frozen=True)
class Batch:
    """Windows as indices of TRs. Positions outside the scan or beyond a gap hold index 0 and are not `seen`."""

    index_BW: NDArray[np.intp]
    seen_BW: NDArray[np.bool_]
    scored_BW: NDArray[np.bool_]

    def rows(self, first: int, last: int) -> Batch:
        """Return windows `first` to `last`: those of one rank or of one pass of a step."""
        return Batch(self.index_BW[first:last], self.seen_BW[first:last], self.scored_BW[first:last])

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Concatenate the windows of several batches."""
        return cls(*(np.concatenate([getattr(b, f.name) for b in batches]) for f in fields(cls)))

    @property
    def n_scored(self) -> int:
        return int(self.scored_BW.sum())


@dataclass(frozen=True)
class WindowSampler:
    """Draws windows from blocks of TRs. Context may reach into the gap before a block, never into another block."""

    blocks: tuple[Block, ...]
    scan_lengths_trs: tuple[int, ...]
    gap_trs: int
    context_trs: int
    scored_trs: int

    def sample(self, seed: int, step: int, n_windows: int) -> Batch:
        """Draw the windows of a step, the same on every rank (Philox, keyed by seed and step)."""
        rng = np.random.Generator(np.random.Philox(key=[seed, step]))
        lengths = np.array([stop - start for start, stop in self.blocks])
        block_B = rng.choice(len(self.blocks), size=n_windows, p=lengths / lengths.sum())
        starts = [self._start(self.blocks[i], u) for i, u in zip(block_B, rng.random(n_windows), strict=True)]
        return self._cut([self.blocks[i] for i in block_B], starts, self.scored_trs)

    def sequential(self) -> list[Batch]:
        """Return each block as one window, for evaluation."""
        return [self._cut([(start, stop)], [start], stop - start) for start, stop in self.blocks]

    def _start(self, block: Block, uniform: float) -> int:
        """Draw a start up to half a window outside the block and move it inside, so that edges are sampled as often."""
        half = self.scored_trs // 2
        first, last = block[0], max(block[0], block[1] - self.scored_trs)
        start = block[0] - half + int(uniform * (max(block[1] - self.scored_trs, block[0]) - block[0] + 2 * half + 1))
        return min(max(start, first), last)

    def _cut(self, blocks: Sequence[Block], starts: Sequence[int], scored_trs: int) -> Batch:
        position_W = np.arange(-self.context_trs, scored_trs)
        trs_BW = np.array(starts)[:, None] + position_W
        block_B2 = np.array(blocks)
        earliest_B = np.array([max(self._scan_start(start), start - self.gap_trs) for start, _ in blocks])
        seen_BW = (trs_BW >= earliest_B[:, None]) & (trs_BW < block_B2[:, 1:])
        scored_BW = seen_BW & (position_W >= 0)
        return Batch(np.where(seen_BW, trs_BW, 0).astype(np.intp), seen_BW, scored_BW)

    def _scan_start(self, tr: int) -> int:
        borders = [0, *accumulate(self.scan_lengths_trs)]
        return next((start for start, stop in pairwise(borders) if start <= tr < stop), borders[-1])


def windows_of(
    blocks: Sequence[Block], scan_lengths_trs: Sequence[int], gap_trs: int, context_trs: int, window_trs: int
) -> WindowSampler:
    """Return a sampler of windows of `window_trs` TRs, context included, or as long as the longest block allows."""
    longest = max(stop - start for start, stop in blocks)
    return WindowSampler(
        tuple(blocks), tuple(scan_lengths_trs), gap_trs, context_trs, min(window_trs - context_trs, longest)
    )
