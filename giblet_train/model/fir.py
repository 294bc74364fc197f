"""The haemodynamic response as a causal kernel per latent, initialised to a given shape and then learnt.

B windows, W window TRs, K latents, L kernel TRs (lag 0 first).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalFir(nn.Module):
    """Depthwise finite impulse response: out(t) = Σ_l kernel(l)·z(t - l), causal."""

    start_KL: Tensor

    def __init__(self, n_latents: int, kernel_ML: Tensor) -> None:
        """kernel_ML: initial kernels, lag 0 first, which the latents use in turn."""
        super().__init__()
        start_KL = kernel_ML.to(torch.float32)[torch.arange(n_latents) % len(kernel_ML)]
        self.kernel_KL = nn.Parameter(start_KL.clone())
        self.register_buffer("start_KL", start_KL, persistent=False)

    def forward(self, z_BWK: Tensor) -> Tensor:
        """Filter latents (B, W, K) along time; zeros are used before the window."""
        n_latents, n_lags = self.kernel_KL.shape
        past = F.pad(z_BWK.transpose(1, 2), (n_lags - 1, 0))
        return F.conv1d(past, self.kernel_KL.flip(-1)[:, None], groups=n_latents).transpose(1, 2)

    def drift(self) -> Tensor:
        """Return the mean squared distance of the kernels from their initial shape; the penalty is a multiple of it."""
        return ((self.kernel_KL - self.start_KL) ** 2).mean()
