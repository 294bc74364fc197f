"""Training, validation and test as contiguous blocks of TRs with gaps between them.

T: TRs of the whole study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Block = tuple[int, int]
"""TRs from the first number up to, not including, the second; never across a scan border."""


@dataclass(frozen=True)
class Split:
    """Which TRs train, which choose and which judge. What lies in no block is gap, used by none."""

    n_trs: int
    fold: int
    gap_trs: int
    train_blocks: tuple[Block, ...]
    validation_blocks: tuple[Block, ...]
    test_blocks: tuple[Block, ...]

    @property
    def train(self) -> NDArray[np.intp]:
        """Indices of the training TRs, ascending."""
        return _indices(self.train_blocks)

    @property
    def validation(self) -> NDArray[np.intp]:
        """Indices of the inner validation TRs, ascending."""
        return _indices(self.validation_blocks)

    @property
    def test(self) -> NDArray[np.intp]:
        """Indices of the test TRs, ascending."""
        return _indices(self.test_blocks)


def _indices(blocks: tuple[Block, ...]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(*block, dtype=np.intp) for block in blocks] or [np.empty(0, np.intp)])
