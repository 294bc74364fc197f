"""Fit the nonlinear feature spaces of `model.feature_expansion` on training TRs.

T TRs, F features, P components, E expanded features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.components.lagged_features import FeatureBand, LagIndex
from giblet_train.model.feature_expansion import (
    LARGEST_SD,
    ExpansionInit,
    FeatureExpansion,
    clipped,
    raw_spaces,
)
from giblet_train.model.voxel_basis import fix_eigenvector_signs

N_COMPONENTS = 16
N_RECTIFIED = 384
LARGEST_BIAS_SD = 1.5

Singles = NDArray[np.float32]


def fit_expansion(
    inputs: Mapping[str, Singles], prior_LL: NDArray[np.float64], index: LagIndex, seed: int
) -> FeatureExpansion:
    """Fit components, clipping limits, means and scales on the training TRs of `index`.

    Components are the principal ones of features filtered by the haemodynamic response, because faster ones hardly
    reach the responses. seed: of the random projections.
    """
    train = index.tr_NL[:, 0]
    components = {m: _components(x_TF, prior_LL, index) for m, x_TF in inputs.items()}
    limits = {m: LARGEST_SD * torch.from_numpy(inputs[m][train] @ c.numpy()).std(dim=0) for m, c in components.items()}
    generator = torch.Generator().manual_seed(seed)
    size_P = torch.cat([limit_P / LARGEST_SD for limit_P in limits.values()])
    directions_PE = torch.randn(len(size_P), N_RECTIFIED, generator=generator)
    directions_PE /= (directions_PE * size_P[:, None]).norm(dim=0)
    bias_E = LARGEST_BIAS_SD * (2.0 * torch.rand(N_RECTIFIED, generator=generator) - 1.0)
    rows = {m: clipped(torch.from_numpy(inputs[m][train]), components[m], limits[m]) for m in inputs}
    all_NP = torch.cat(tuple(rows.values()), dim=-1)
    linear_PE = _linear_part(all_NP, (all_NP @ directions_PE + bias_E).relu())
    spaces = raw_spaces(rows, directions_PE, bias_E, linear_PE)
    mean = {space: x_NE.mean(dim=0) for space, x_NE in spaces.items()}
    rms = {space: max(float((x_NE - mean[space]).square().mean().sqrt()), 1e-6) for space, x_NE in spaces.items()}
    return FeatureExpansion(ExpansionInit(components, limits, directions_PE, bias_E, linear_PE, mean, rms))


@torch.no_grad()
def expanded(expansion: FeatureExpansion, inputs: Mapping[str, Singles]) -> dict[str, Singles]:
    """Return feature space -> (T, E) over all TRs."""
    features = {m: torch.from_numpy(np.ascontiguousarray(x_TF))[None] for m, x_TF in inputs.items()}
    seen_BW = torch.ones(next(iter(features.values())).shape[:2], dtype=torch.bool)
    return {space: x_BWE[0].numpy() for space, x_BWE in expansion(features, seen_BW).items()}


def _linear_part(x_NP: torch.Tensor, y_NE: torch.Tensor) -> torch.Tensor:
    """Return the coefficients (P, E) of the regression of y on x, both centred."""
    x_NP, y_NE = (x - x.mean(dim=0) for x in (x_NP.double(), y_NE.double()))
    normal_PP = x_NP.T @ x_NP
    normal_PP += 1e-6 * normal_PP.diagonal().mean() * torch.eye(len(normal_PP), dtype=normal_PP.dtype)
    return torch.cholesky_solve(x_NP.T @ y_NE, torch.linalg.cholesky(normal_PP)).float()


def _components(x_TF: Singles, prior_LL: NDArray[np.float64], index: LagIndex) -> torch.Tensor:
    """Return the projection (F, P) on the leading components of HRF-filtered features, of mean variance 1."""
    x_GF = FeatureBand.of("", x_TF, prior_LL, index).filtered(index).reshape(-1, x_TF.shape[1])
    covariance_FF = x_GF.T @ x_GF
    _, vectors_FF = np.linalg.eigh(covariance_FF)
    n_components = min(N_COMPONENTS, len(vectors_FF))
    projection_FP = fix_eigenvector_signs(vectors_FF[:, ::-1][:, :n_components])
    size = np.sqrt(np.mean((x_TF[index.tr_NL[:, 0]] @ projection_FP) ** 2))
    return torch.from_numpy((projection_FP / max(size, 1e-6)).astype(np.float32))
