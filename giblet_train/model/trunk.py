"""The temporal trunk: local convolution, attention with rotary positions, and an MLP, each behind a LayerNorm.

B windows, W window TRs, D width, H attention heads, E width of one head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from giblet_train.model.dropout import StatelessDropout

KERNEL_TRS = 9
EXPANSION = 3
ROTARY_BASE = 1000.0


class Attention(nn.Module):
    """Self-attention over the window's TRs with rotary positions (Su et al. 2021, arXiv 2104.09864)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BWD: Tensor, seen_BW: Tensor) -> Tensor:
        """Attend over (B, W, D). seen_BW: which TRs exist; the others are masked."""
        n_windows, n_trs, width = x_BWD.shape
        qkv = self.qkv(x_BWD).view(n_windows, n_trs, 3, self.n_heads, width // self.n_heads)
        q_BHWE, k_BHWE, v_BHWE = qkv.permute(2, 0, 3, 1, 4)
        mask_BHWW = seen_BW[:, None, None, :] | torch.eye(n_trs, dtype=torch.bool, device=x_BWD.device)
        mixed_BHWE = F.scaled_dot_product_attention(rotated(q_BHWE), rotated(k_BHWE), v_BHWE, attn_mask=mask_BHWW)
        y_BWD: Tensor = self.out(mixed_BHWE.transpose(1, 2).reshape(n_windows, n_trs, width))
        return y_BWD


def rotated(x_BHWE: Tensor) -> Tensor:
    """Rotate each pair of numbers by an angle proportional to the TR, so that products depend on distance alone."""
    n_trs, size = x_BHWE.shape[-2:]
    rate_E = ROTARY_BASE ** (-torch.arange(0, size, 2, device=x_BHWE.device) / size)
    angle_WE = torch.arange(n_trs, device=x_BHWE.device)[:, None] * rate_E
    even, odd = x_BHWE[..., 0::2], x_BHWE[..., 1::2]
    rotation = torch.stack(
        [even * angle_WE.cos() - odd * angle_WE.sin(), even * angle_WE.sin() + odd * angle_WE.cos()], dim=-1
    )
    return rotation.flatten(-2).to(x_BHWE.dtype)


class Block(nn.Module):
    """Convolution along time, attention and MLP, each with a residual connection."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.convolution = nn.Conv1d(width, width, KERNEL_TRS, padding=KERNEL_TRS // 2, groups=width)
        self.attention = Attention(width, n_heads)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))

    def forward(self, x_BWD: Tensor, seen_BW: Tensor, noise: StatelessDropout | None) -> Tensor:
        seen_BW1 = seen_BW[..., None]
        near = self.convolution((self.norms[0](x_BWD) * seen_BW1).transpose(1, 2)).transpose(1, 2)
        x_BWD = x_BWD + _dropped(near, self.dropout, noise)
        x_BWD = x_BWD + _dropped(self.attention(self.norms[1](x_BWD), seen_BW), self.dropout, noise)
        return x_BWD + _dropped(self.mlp(self.norms[2](x_BWD)), self.dropout, noise)


class Trunk(nn.Module):
    """Maps the stream to K latents: a linear map, as in ridge regression, plus nonlinear units after the blocks.

    Half of the units are GELUs, for thresholds and saturation; the others are products of two linear maps, for energies
    and interactions, which sums of GELUs only approximate.
    """

    def __init__(self, width: int, n_layers: int, n_heads: int, n_latents: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.blocks = nn.ModuleList([Block(width, n_heads, dropout) for _ in range(n_layers)])
        self.direct = nn.Linear(width, n_latents)
        self.rectified = nn.Linear(width, width)
        self.factors = nn.Linear(width, 2 * width)
        self.mixed = nn.Linear(2 * width, n_latents, bias=False)

    def forward(self, x_BWD: Tensor, seen_BW: Tensor, noise: StatelessDropout | None) -> Tensor:
        """Map (B, W, D) to latents (B, W, K). seen_BW: which TRs are on the scan; a window may start before it."""
        latents_BWK: Tensor = self.direct(_dropped(x_BWD, self.dropout, noise))
        for block in self.blocks:
            x_BWD = block(x_BWD, seen_BW, noise)
        first_BWD, second_BWD = self.factors(x_BWD).chunk(2, dim=-1)
        units_BWU = torch.cat([F.gelu(self.rectified(x_BWD)), first_BWD * second_BWD], dim=-1)
        latents_BWK = latents_BWK + self.mixed(_dropped(units_BWU, self.dropout, noise))
        return latents_BWK * seen_BW[..., None]


def _dropped(x: Tensor, p: float, noise: StatelessDropout | None) -> Tensor:
    return x if noise is None else noise.dropout(x, p)
