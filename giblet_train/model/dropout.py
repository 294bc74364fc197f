"""Dropout that depends only on seed, step and position: identical for any number of ranks and after a resume.

A mask is a hash of a key and of each number's position in the whole step's windows, so a rank computes only its own
part, no generator state is saved, and `torch.compile` can trace it: the key is a tensor, so a step recompiles nothing.
B windows of this rank, D any other axes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

N_KEYS = 2
BITS = 24
"""Bits of a draw."""
MASK_FACTOR, POSITION_FACTOR = 0x9E3779B1, 0x85EBCA6B
"""Odd factors that set masks, and positions in a mask, far apart."""
ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))
"""Shift and factor of each round of the hash: `lowbias32` by C. Wellons."""


class StatelessDropout:
    """Random masks of one forward pass over the windows from `first` of a step."""

    def __init__(self, seed: int, step: int, first: int = 0, device: torch.device | str = "cpu") -> None:
        keys = np.random.SeedSequence([seed, step]).generate_state(N_KEYS)
        self._keys = torch.from_numpy(keys.view(np.int32)).to(device)
        self._first = first
        self._n_masks = 0

    def _draws(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Return integers of BITS bits (B, ...), others at each call."""
        salt = _int32(self._n_masks * MASK_FACTOR)
        self._n_masks += 1
        n_each = math.prod(shape[1:])
        first, n_draws = self._first * n_each, shape[0] * n_each
        position = torch.arange(first, first + n_draws, dtype=torch.int32, device=self._keys.device)
        hash_value = position * _int32(POSITION_FACTOR) + (self._keys[0] ^ salt)
        for key, (shift, factor) in zip(self._keys.unbind(), ROUNDS, strict=True):
            hash_value = ((hash_value ^ _shifted(hash_value, shift)) + key) * _int32(factor)
        return _shifted(hash_value, 32 - BITS).view(shape)

    def dropout(self, x_BD: Tensor, p: float) -> Tensor:
        """Set a share `p` of the numbers to 0 and scale the others by 1 / (1 - p)."""
        if p == 0.0:
            return x_BD
        keep_BD = self._draws(x_BD.shape) >= round(p * (1 << BITS))
        return x_BD * keep_BD / (1.0 - p)

    def keep_mask(self, n_windows: int, n: int, p: float) -> Tensor:
        """Return a mask (B, n) of the inputs that each window keeps; each is dropped with probability p, never all."""
        draw_BN = self._draws((n_windows, n))
        keep_BN = draw_BN >= round(p * (1 << BITS))
        keep_BN |= draw_BN == draw_BN.amax(dim=1, keepdim=True)
        return keep_BN.to(torch.float32)


def _shifted(x: Tensor, n_bits: int) -> Tensor:
    """Shift to the right and fill with zeros; `>>` alone would repeat the sign."""
    return (x >> n_bits) & ((1 << (32 - n_bits)) - 1)


def _int32(number: int) -> int:
    """Return the signed number with the same low 32 bits."""
    return (number + 2**31) % 2**32 - 2**31
