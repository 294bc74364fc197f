"""Linear heads from latents to the compressed responses of all subjects, and the way back.

... any leading axes, K latents, R compressed numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Heads(nn.Module):
    """One linear map per part of the compression (`group` and `deviation`, or one per subject).

    What is learnt is zero at first. Without start_KR the heads then predict the training mean, so the first loss is the
    best constant's: exactly 1.
    """

    gain_R: Tensor
    start_KR: Tensor

    def __init__(
        self,
        n_latents: int,
        n_columns: Mapping[str, int],
        gain_R: Tensor,
        start_sd: float = 0.0,
        start_KR: Tensor | None = None,
        learnt_share: float = 1.0,
    ) -> None:
        """n_columns: part -> its share of R, in order. start_sd: above 0 for losses that are flat at zero heads.

        start_KR: fixed heads that what is learnt is added to, so that weight decay pulls back to them; zero if None.
        learnt_share: how much of what is learnt counts once training is over.

        gain_R: the size of each score. Weights are learnt in its units, for Adam moves all by the same amount, while
        scores grow with the root of the number of voxels they stand for.
        """
        super().__init__()
        self.learnt_share = learnt_share
        self.register_buffer("gain_R", gain_R.clone())
        start_KR = torch.zeros(n_latents, len(gain_R)) if start_KR is None else start_KR
        self.register_buffer("start_KR", start_KR.clone())
        self.parts = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(n_latents, n) * start_sd) for name, n in n_columns.items()}
        )

    @property
    def weight_KR(self) -> Tensor:
        """All parts side by side."""
        share = 1.0 if self.training else self.learnt_share
        return self.start_KR + share * torch.cat(list(self.parts.values()), dim=1) * self.gain_R

    def forward(self, z_K: Tensor) -> Tensor:
        """(..., K) to predicted scores (..., R)."""
        return z_K @ self.weight_KR


def readout(scores_R: Tensor, weight_KR: Tensor, ridge: Tensor) -> Tensor:
    """The latents that explain scores best: argmin ||s - z W||² + ridge·||z||² = s Wᵀ (W Wᵀ + ridge·I)⁻¹.

    scores_R: (..., R), of all subjects together. Returns (..., K).
    """
    normal_KK = weight_KR @ weight_KR.T + ridge * torch.eye(len(weight_KR), device=weight_KR.device)
    # Cholesky, never a batched LU: torch's is wrong on some CPU builds (pytorch issue 142815).
    factor_KK = torch.linalg.cholesky(normal_KK)
    seen = scores_R @ weight_KR.T
    flat = seen.reshape(-1, seen.shape[-1])
    return torch.cholesky_solve(flat.T, factor_KK).T.reshape(seen.shape)
