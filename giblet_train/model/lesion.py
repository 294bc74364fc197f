"""Lesions: latents read from brains in which some voxels are missing.

`silence` sets responses to 0 while the readout still expects them, as in a damaged brain. `missing` also removes the
voxels from the readout, so the film is reconstructed from what the other voxels carry.

T TRs, V voxels, K latents, L voxels of a lesion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.model.network import BrainModel
from giblet_train.model.voxel_basis import Matrix, VoxelBasis

Mode = Literal["silence", "missing"]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class VoxelReadout:
    """The readout of `heads.ridge_readout` per voxel, so that a lesion costs only as much as it has voxels.

    heads: subject -> (K, V). bold: subject -> (T, V), measured or predicted. seen_TK = Σ y Hᵀ, normal_KK = Σ H Hᵀ.
    """

    heads: Mapping[str, Matrix]
    bold: Mapping[str, Matrix]
    seen_TK: Doubles
    normal_KK: Doubles
    ridge: float

    @classmethod
    def of(cls, model: BrainModel, compression: VoxelBasis, bold: Mapping[str, Matrix]) -> VoxelReadout:
        """Build the readout of `bold` by the model's heads, over all subjects."""
        weight_KR = model.reading_KR.detach().cpu().numpy()
        heads = {s: compression.expand(s, weight_KR) for s in bold}
        seen_TK = np.sum([_product(bold[s], heads[s]) for s in bold], axis=0)
        normal_KK = np.sum([_product(h_KV, h_KV) for h_KV in heads.values()], axis=0)
        return cls(heads, bold, seen_TK, normal_KK, model.log_ridge.exp().item())

    def latents(self, lost_V: NDArray[np.bool_], mode: Mode) -> Tensor:
        """Return the latents (T, K) read without the voxels `lost_V` of every subject."""
        voxels = np.flatnonzero(lost_V)
        heads = {s: h_KV[:, voxels] for s, h_KV in self.heads.items()}
        seen_TK, normal_KK = self.seen_TK.copy(), self.normal_KK.copy()
        for subject, h_KL in heads.items():
            seen_TK -= _product(self.bold[subject][:, voxels], h_KL)
            if mode == "missing":
                normal_KK -= _product(h_KL, h_KL)
        normal = torch.from_numpy(normal_KK + self.ridge * np.eye(len(normal_KK)))
        return torch.cholesky_solve(torch.from_numpy(seen_TK.T), torch.linalg.cholesky(normal)).T.float()


def _product(a_NV: Matrix, b_MV: Matrix) -> Doubles:
    """Return a bᵀ in double precision, because a lesion is a difference of such sums."""
    return np.asarray(a_NV.astype(np.float64) @ b_MV.astype(np.float64).T)
