"""Linear heads from latents to the compressed responses of all subjects, and the ridge inverse.

... any leading axes, K latents, Z of them fixed, R compressed numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

Gather = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]
"""Adds other subjects to W Wᵀ and to s Wᵀ, see `ridge_readout`."""


class Heads(nn.Module):
    """One linear map per part of the compression (`group` and `deviation`, or one per subject).

    The fixed heads of a ridge start read the first Z latents, learnt heads read the others. Learnt heads are zero at
    first: then the prediction is that of the start, or without one the training mean, whose loss is exactly 1.
    """

    none_K0: Tensor

    def __init__(
        self,
        n_learnt: int,
        n_columns: Mapping[str, int],
        gain_R: Tensor,
        start_sd: float = 0.0,
        start_ZR: Tensor | None = None,
        local_parts: Collection[str] | None = None,
    ) -> None:
        """Build the heads.

        Args:
            n_learnt: latents that learnt heads read.
            n_columns: every part -> its numbers, in order.
            gain_R: size of each score. Weights are learnt in its units, because Adam moves all by the same amount
                while scores grow with the root of the number of voxels they stand for.
            start_sd: standard deviation of the initial weights; above 0 for losses that are flat at zero heads.
            start_ZR: fixed heads of the start.
            local_parts: parts that are on this rank, whose columns are R; None for all.
        """
        super().__init__()
        self.n_start = 0 if start_ZR is None else len(start_ZR)
        # On a rank without any part, the heads still have a row for each latent.
        self.register_buffer("none_K0", torch.zeros(self.n_start + n_learnt, 0), persistent=False)
        # Every part is drawn, local or not, so that later random numbers do not depend on which are local.
        initial_weights = ((name, torch.randn(n_learnt, n) * start_sd) for name, n in n_columns.items())
        self.parts = nn.ParameterDict(
            {name: nn.Parameter(x) for name, x in initial_weights if local_parts is None or name in local_parts}
        )
        sizes = [x.shape[1] for x in self.parts.values()]
        self.gain = _FrozenParts(dict(zip(self.parts, torch.split(gain_R, sizes), strict=True)))
        start_ZR = torch.zeros(0, sum(sizes)) if start_ZR is None else start_ZR
        self.start = _FrozenParts(dict(zip(self.parts, torch.split(start_ZR, sizes, dim=1), strict=True)))

    @property
    def weight_KR(self) -> Tensor:
        """Return the heads of all local parts, side by side."""
        parts = [torch.cat([self.start[n], x * self.gain[n]]) for n, x in self.parts.items()]
        return torch.cat([self.none_K0, *parts], dim=1)

    @property
    def start_ZR(self) -> Tensor:
        """Return the fixed heads of the start."""
        return torch.cat([self.none_K0[: self.n_start], *(self.start[n] for n in self.parts)], dim=1)

    def forward(self, z_K: Tensor) -> Tensor:
        """Map latents (..., K) to predicted scores (..., R)."""
        return z_K @ self.weight_KR


class _FrozenParts(nn.Module):
    """Numbers of each part that are saved but not learnt."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, value.clone())

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)


def no_gather(normal_KK: Tensor, projections: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """Return the sums unchanged: all subjects are local."""
    return normal_KK, projections


def ridge_readout(
    scores: Sequence[Tensor], weight_KR: Tensor, ridge: Tensor, gather: Gather = no_gather
) -> list[Tensor]:
    """Return the latents (..., K) that explain scores best: argmin ||s - z W||² + ridge·||z||².

    The solution is s Wᵀ (W Wᵀ + ridge·I)⁻¹. scores: of some sources, each (..., R), of all subjects together or, if
    `gather` adds the others, of the local ones.
    """
    normal_KK, projections = gather(weight_KR @ weight_KR.T, [scores_R @ weight_KR.T for scores_R in scores])
    # Cholesky, never a batched LU: torch's is wrong on some CPU builds (pytorch issue 142815).
    factor_KK, status = torch.linalg.cholesky_ex(normal_KK + ridge * torch.eye(len(normal_KK), device=normal_KK.device))
    # Weights that are not finite must reach the loss, which names them on all ranks, instead of raising on one.
    factor_KK = factor_KK.masked_fill(status > 0, torch.nan)
    return [torch.cholesky_solve(x.reshape(-1, x.shape[-1]).T, factor_KK).T.reshape(x.shape) for x in projections]
