"""Correlation of predicted with measured responses on the validation block, computed on the run's device.

T TRs, R compressed responses, V responsive voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.evaluation.metrics import unit
from giblet_train.model.voxel_basis import VoxelBasis

FEWEST_TRS = 4
"""Held-out TRs of a subject without which its correlation is not measured."""
LEAST_NORM = 1e-12


@dataclass(frozen=True)
class SubjectResponses:
    """One subject's responsive voxels on the validation TRs."""

    basis: tuple[tuple[slice, Tensor | None], ...]
    """Columns of the scores and their rows of the basis, (r, all voxels); None for columns that are voxels."""
    voxels_V: Tensor
    rows: Tensor | None
    """Positions of the validation TRs that the subject has; None for all."""
    unit_TV: Tensor
    """Measured responses of the TRs that the subject has, of mean 0 and norm 1."""

    def expand(self, scores_TR: Tensor) -> Tensor:
        """Return responses (T, V) from scores, in the TRs that the subject has."""
        scores_TR = scores_TR if self.rows is None else scores_TR[self.rows]
        parts = [scores_TR[:, columns] if b is None else scores_TR[:, columns] @ b for columns, b in self.basis]
        return torch.stack(parts).sum(dim=0)[:, self.voxels_V]

    def products(self, predicted_TV: Tensor) -> Tensor:
        """Return what each TR contributes to each voxel's r, (T, V)."""
        centred_TV = predicted_TV - predicted_TV.mean(dim=0)
        norm_V: Tensor = centred_TV.norm(dim=0)
        return centred_TV / norm_V.clamp_min(LEAST_NORM) * self.unit_TV


@dataclass(frozen=True)
class ValidationResponses:
    """Responsive voxels of the local subjects on the validation TRs."""

    subjects: Mapping[str, SubjectResponses]
    n_trs: int

    @classmethod
    def of(
        cls, data: PreparedSplit, basis: VoxelBasis, subjects: Sequence[str], device: torch.device
    ) -> ValidationResponses:
        """Copy to the device what every validation needs; subjects with too few validation TRs are left out."""
        rows, voxels_V = data.split.validation, np.flatnonzero(data.responsive_V)
        members = {}
        for subject in subjects:
            own = data.rows_of(subject, rows)
            if len(own) < FEWEST_TRS:
                continue
            unit_TV = unit(data.bold[subject][np.ix_(own, voxels_V)]).astype(np.float32)
            members[subject] = SubjectResponses(
                tuple((c, None if b is None else torch.from_numpy(b).to(device)) for c, b in basis.basis[subject]),
                torch.from_numpy(voxels_V).to(device),
                torch.from_numpy(np.flatnonzero(np.isin(rows, own))).to(device) if data.present else None,
                torch.from_numpy(unit_TV).to(device),
            )
        return cls(members, len(rows))

    def r_T(self, scores_TR: Tensor, added_TR: Tensor | None = None, shares: Sequence[float] = (0.0,)) -> list[Tensor]:
        """Return for each share of an addition what each TR contributes to r, (T,), summed over subjects."""
        totals = [torch.zeros(self.n_trs, device=scores_TR.device) for _ in shares]
        for own in self.subjects.values():
            predicted_TV = own.expand(scores_TR)
            added_TV = own.expand(added_TR) if added_TR is not None else torch.zeros_like(predicted_TV)
            for total_T, share in zip(totals, shares, strict=True):
                mean_T = own.products(predicted_TV + share * added_TV).mean(dim=1)
                total_T.index_add_(0, self._positions(own, mean_T), mean_T)
        return totals

    def r_V(self, scores_TR: Tensor) -> NDArray[np.float32] | None:
        """Return r of each voxel, mean over subjects; None without a subject."""
        r = [own.products(own.expand(scores_TR)).sum(dim=0) for own in self.subjects.values()]
        return np.asarray(torch.stack(r).mean(dim=0).cpu(), np.float32) if r else None

    def _positions(self, own: SubjectResponses, mean_T: Tensor) -> Tensor:
        return torch.arange(self.n_trs, device=mean_T.device) if own.rows is None else own.rows
