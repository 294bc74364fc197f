"""Dropout that depends only on seed, step and position: identical for any number of ranks and after a resume.

B windows of this rank, D any other axes. Every mask is drawn for all windows of the step and cut to this rank's, from a
generator seeded by (seed, step, number of masks drawn before), so no generator state has to be saved.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class StatelessDropout:
    """Random masks of one forward pass over windows `first` to `last` of the step's `n_windows`."""

    def __init__(self, seed: int, step: int, n_windows: int, first: int, last: int) -> None:
        self._key = (seed, step)
        self._n_windows = n_windows
        self._rows = slice(first, last)
        self._drawn = 0

    def _uniform(self, shape: torch.Size | tuple[int, ...], device: torch.device) -> Tensor:
        state = np.random.SeedSequence([*self._key, self._drawn]).generate_state(2)
        self._drawn += 1
        generator = torch.Generator(device).manual_seed(int(state[0]) << 31 ^ int(state[1]))
        return torch.rand((self._n_windows, *shape[1:]), generator=generator, device=device)[self._rows]

    def dropout(self, x_BD: Tensor, p: float) -> Tensor:
        """Set a share `p` of the numbers to 0 and scale the others by 1 / (1 - p)."""
        if p == 0.0:
            return x_BD
        return x_BD * (self._uniform(x_BD.shape, x_BD.device) >= p) / (1.0 - p)

    def keep_mask(self, n: int, p: float, device: torch.device) -> Tensor:
        """Return a mask (B, n) of the inputs that each window keeps; each is dropped with probability p, never all."""
        draw_BN = self._uniform((self._n_windows, n), device)
        kept_BN = draw_BN >= p
        kept_BN |= draw_BN == draw_BN.amax(dim=1, keepdim=True)
        return kept_BN.to(torch.float32)
