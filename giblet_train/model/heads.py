"""Linear heads from latents to the compressed responses of all subjects, and the way back.

... any leading axes, K latents, R compressed numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

Gather = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, Sequence[Tensor]]]
"""W Wᵀ and the s Wᵀ of some subjects to those of all, see `readout`."""


class Heads(nn.Module):
    """One linear map per part of the compression (`group` and `deviation`, or one per subject).

    What is learnt is zero at first. Without a start the heads then predict the training mean, so the first loss is the
    best constant's: exactly 1.
    """

    none_K0: Tensor

    def __init__(
        self,
        n_latents: int,
        n_columns: Mapping[str, int],
        gain_R: Tensor,
        start_sd: float = 0.0,
        start_KR: Tensor | None = None,
        learnt_share: float = 1.0,
        held: Collection[str] | None = None,
    ) -> None:
        """n_columns: every part -> its numbers, in order. held: the parts that are here, whose columns R counts; None
        for all. start_sd: above 0 for losses that are flat at zero heads.

        start_KR: fixed heads that what is learnt is added to, so that weight decay pulls back to them; zero if None.
        learnt_share: how much of what is learnt counts once training is over.

        gain_R: the size of each score. Weights are learnt in its units, for Adam moves all by the same amount, while
        scores grow with the root of the number of voxels they stand for.
        """
        super().__init__()
        self.learnt_share = learnt_share
        self.register_buffer("none_K0", torch.zeros(n_latents, 0), persistent=False)
        # Every part is drawn, here or not, so that whatever is drawn next does not depend on which are.
        drawn = ((name, torch.randn(n_latents, n) * start_sd) for name, n in n_columns.items())
        self.parts = nn.ParameterDict({name: nn.Parameter(x) for name, x in drawn if held is None or name in held})
        sizes = [x.shape[1] for x in self.parts.values()]
        self.gain = _FrozenParts(dict(zip(self.parts, torch.split(gain_R, sizes), strict=True)))
        self.start = None
        if start_KR is not None:
            self.start = _FrozenParts(dict(zip(self.parts, torch.split(start_KR, sizes, dim=1), strict=True)))

    @property
    def weight_KR(self) -> Tensor:
        """All parts that are here, side by side."""
        share = 1.0 if self.training else self.learnt_share
        learnt = {n: share * x * self.gain[n] for n, x in self.parts.items()}
        return self._joined(learnt if self.start is None else {n: self.start[n] + x for n, x in learnt.items()})

    @property
    def start_KR(self) -> Tensor:
        """What weight_KR was before anything was learnt, where there is a start."""
        assert self.start is not None
        return self._joined({n: self.start[n] for n in self.parts})

    def forward(self, z_K: Tensor) -> Tensor:
        """(..., K) to predicted scores (..., R)."""
        return z_K @ self.weight_KR

    def _joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([self.none_K0, *parts.values()], dim=1)


class _FrozenParts(nn.Module):
    """Numbers of each part that are kept and not learnt."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(name, value.clone())

    def __getitem__(self, name: str) -> Tensor:
        return self.get_buffer(name)


def no_gather(normal_KK: Tensor, seen: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """The sums of a readout where all subjects are here."""
    return normal_KK, seen


def ridge_readout(
    scores: Sequence[Tensor], weight_KR: Tensor, ridge: Tensor, gather: Gather = no_gather
) -> list[Tensor]:
    """The latents that explain scores best: argmin ||s - z W||² + ridge·||z||² = s Wᵀ (W Wᵀ + ridge·I)⁻¹.

    scores: of some sources, each (..., R), of all subjects together or, where `gather` adds the others', of some.
    Returns (..., K) for each.
    """
    normal_KK, seen = gather(weight_KR @ weight_KR.T, [scores_R @ weight_KR.T for scores_R in scores])
    # Cholesky, never a batched LU: torch's is wrong on some CPU builds (pytorch issue 142815).
    factor_KK, failed = torch.linalg.cholesky_ex(normal_KK + ridge * torch.eye(len(normal_KK), device=normal_KK.device))
    # Weights that are not finite must be found by the loss, which names them on all ranks, and not end one rank here.
    factor_KK = factor_KK.masked_fill(failed > 0, torch.nan)
    return [torch.cholesky_solve(x.reshape(-1, x.shape[-1]).T, factor_KK).T.reshape(x.shape) for x in seen]
