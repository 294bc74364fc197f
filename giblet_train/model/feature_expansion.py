"""Nonlinear features of each TR: products of stimulus components, and rectified random projections of them.

The linear path of the network uses them as further feature spaces, so predictions need no training rows. Products are
exact features of the Hadamard product of two kernels; rectified projections are random features of the arc-cosine
kernel of order 1 (Cho and Saul 2009), with biases and without their linear part, which the modalities provide.
B windows, W window TRs, F features, P components of a modality, E expanded features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

LARGEST_SD = 4.0
RECTIFIED = "rectified"
Features = Mapping[str, Tensor]


@dataclass(frozen=True)
class ExpansionInit:
    """Fixed numbers of an expansion, fitted on training TRs."""

    components_FP: Mapping[str, Tensor]
    """Modality -> projection on its components; a component's size is its weight in products."""
    limit_P: Mapping[str, Tensor]
    """Modality -> the absolute value at which each component is clipped."""
    directions_PE: Tensor
    """Random directions in the components of all modalities, side by side."""
    bias_E: Tensor
    linear_PE: Tensor
    """Linear regression of the rectified projections on the components, which is subtracted from them."""
    mean: Mapping[str, Tensor]
    """Feature space -> (E,) mean over training TRs."""
    rms: Mapping[str, float]
    """Feature space -> root mean square over training TRs and features, after centring."""


class FeatureExpansion(nn.Module):
    """Computes the nonlinear feature spaces of an ExpansionInit."""

    def __init__(self, init: ExpansionInit) -> None:
        super().__init__()
        self.modalities = tuple(init.components_FP)
        self.rms = dict(init.rms)
        for modality in self.modalities:
            self.register_buffer(f"components_{modality}", init.components_FP[modality])
            self.register_buffer(f"limit_{modality}", init.limit_P[modality])
        self.register_buffer("directions_PE", init.directions_PE)
        self.register_buffer("bias_E", init.bias_E)
        self.register_buffer("linear_PE", init.linear_PE)
        for space, mean_E in init.mean.items():
            self.register_buffer(f"mean_{space}", mean_E)

    def forward(self, features: Features, seen_BW: Tensor) -> dict[str, Tensor]:
        """Return feature space -> (B, W, E), zero outside valid TRs."""
        spaces = raw_spaces(
            {
                m: clipped(features[m], self.get_buffer(f"components_{m}"), self.get_buffer(f"limit_{m}"))
                for m in self.modalities
            },
            self.get_buffer("directions_PE"),
            self.get_buffer("bias_E"),
            self.get_buffer("linear_PE"),
        )
        return {
            space: (x_BWE - self.get_buffer(f"mean_{space}")) / self.rms[space] * seen_BW[..., None]
            for space, x_BWE in spaces.items()
        }


def clipped(x_F: Tensor, components_FP: Tensor, limit_P: Tensor) -> Tensor:
    """Return the components (..., P) of features, clipped."""
    components_P = x_F @ components_FP
    return torch.minimum(torch.maximum(components_P, -limit_P), limit_P)


def space_names(modalities: Sequence[str]) -> list[str]:
    """Return the names of the feature spaces: one per modality and per pair of modalities, and `rectified`."""
    pairs = [(m, m) for m in modalities] + list(combinations(modalities, 2))
    return [f"{first}_x_{second}" for first, second in pairs] + [RECTIFIED]


def raw_spaces(components: Features, directions_PE: Tensor, bias_E: Tensor, linear_PE: Tensor) -> dict[str, Tensor]:
    """Return feature space -> features, before centring and scaling. components: modality -> (..., P)."""
    modalities = tuple(components)
    spaces = {f"{m}_x_{m}": _squares(x_P) for m, x_P in components.items()}
    for first, second in combinations(modalities, 2):
        spaces[f"{first}_x_{second}"] = (components[first][..., :, None] * components[second][..., None, :]).flatten(-2)
    all_P = torch.cat(tuple(components.values()), dim=-1)
    return spaces | {RECTIFIED: (all_P @ directions_PE + bias_E).relu() - all_P @ linear_PE}


def _squares(x_P: Tensor) -> Tensor:
    """Return all products (..., P(P+1)/2) of two components, weighted as in the square of their kernel."""
    first, second = torch.triu_indices(x_P.shape[-1], x_P.shape[-1], device=x_P.device)
    weight = torch.where(first == second, 1.0, 2.0**0.5).to(x_P)
    return x_P[..., first] * x_P[..., second] * weight
