"""Held-out maps of each voxel: r, r relative to the ceiling, and p, per subject and group.

T TRs of the test block that a subject has, V voxels, N draws of the null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.analysis.load_run import LoadedRun
from giblet_train.components.loss_terms import LossTerms
from giblet_train.evaluation.chance import prewhitened_r, stretches_of
from giblet_train.evaluation.metrics import pearson
from giblet_train.evaluation.validation_responses import FEWEST_TRS
from giblet_train.schema.errors import DataError

FDR = 0.05
N_VOXEL_SERIES = 10
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class HeldOutMaps:
    """Held-out r of each voxel, and what it is compared with."""

    r: Mapping[str, Floats]
    """Subject -> (V,)."""
    group_r_V: Floats
    """Mean over subjects."""
    p: Mapping[str, Floats]
    """Subject, or "group" -> (V,): one-sided p of r after prewhitening."""
    ceiling_V: Floats
    """Root of the inter-subject correlation over training TRs; NaN where it is not positive or not measured."""
    null: str
    """How the null was made, for the methods."""
    lost_without: Mapping[str, Floats]
    """Modality -> (V,): how much r² of the group falls when the network gets the modality's training mean instead."""
    measured: Mapping[str, Floats]
    """Set of voxels -> (T,) measured response of the test block, mean over subjects who have the row and voxels."""
    predicted: Mapping[str, Floats]
    """The same of the predicted response."""

    @property
    def relative_V(self) -> Floats:
        """Return r relative to the ceiling (V,); NaN without a ceiling."""
        return np.asarray(self.group_r_V / self.ceiling_V)

    def q(self, name: str = "group") -> NDArray[np.float64]:
        """Return the false-discovery rate at which each voxel (V,) becomes significant."""
        return q_values(self.p[name])

    def significant(self, name: str = "group") -> NDArray[np.bool_]:
        """Return the voxels (V,) that are significant at a false-discovery rate of FDR."""
        return self.q(name) <= FDR


def held_out_maps(run: LoadedRun) -> HeldOutMaps:
    """Compute the maps of a run on the test block. Raises DataError if no subject has enough TRs there."""
    data, rows = run.data, run.data.split.test
    blocks = data.split.other_blocks
    stretches = stretches_of(blocks, len(rows))
    series = zip(run.evaluator.predicted(run.model), run.evaluator.predicted(run.model, blocks), strict=True)
    r, white_r, p, group_null_NV = {}, {}, {}, None
    for (subject, predicted_TV), (_, other_TV) in series:
        own_T = data.present[subject][rows] if data.present else np.ones(len(rows), bool)
        if own_T.sum() < FEWEST_TRS:
            continue
        measured_TV = data.bold[subject][rows]
        r[subject] = pearson(predicted_TV[own_T], measured_TV[own_T])
        white_r[subject], null_NV = prewhitened_r(
            predicted_TV, measured_TV, other_TV, data.split.test_blocks, blocks, data.drift, own_T
        )
        p[subject] = pooled_p(white_r[subject], null_NV)
        n_null = len(null_NV) if group_null_NV is None else min(len(null_NV), len(group_null_NV))
        group_null_NV = null_NV[:n_null] if group_null_NV is None else group_null_NV[:n_null] + null_NV[:n_null]
    if group_null_NV is None:
        raise DataError(
            f"No subject has {FEWEST_TRS} TRs in the test block, so that r cannot be compared with chance.",
            "Evaluate another fold: giblet launch NODE CONFIG --set split.fold=1",
        )
    group_r_V = np.mean(list(r.values()), axis=0)
    p["group"] = pooled_p(np.mean(list(white_r.values()), axis=0), group_null_NV / len(r))
    isc_V = np.asarray(data.isc_V, np.float64)
    measured, predicted = _series(run, group_r_V)
    null = (
        f"predictions of {len(stretches)} other stretches of the film"
        if stretches
        else "circular shifts of the test block, because no other block is as long"
    )
    ceiling_V = np.sqrt(np.where(isc_V > 0, isc_V, np.nan))
    losses_V = _lost_without(run, group_r_V)
    return HeldOutMaps(r, group_r_V, p, ceiling_V, null, losses_V, measured, predicted)


def _lost_without(run: LoadedRun, group_r_V: Floats) -> dict[str, Floats]:
    """Predict again with each modality at its training mean, which is 0."""
    targets = run.evaluator.objective.targets
    losses_V: dict[str, Floats] = {}
    for modality in targets.inputs if len(targets.inputs) > 1 else ():
        silent = {**targets.inputs, modality: torch.zeros_like(targets.inputs[modality])}
        evaluator = replace(run.evaluator, objective=LossTerms(replace(targets, inputs=silent), run.config))
        r = [_r_of(run, subject, predicted_TV) for subject, predicted_TV in evaluator.predicted(run.model)]
        without_V = np.mean([r_V for r_V in r if r_V is not None], axis=0)
        losses_V[modality] = _explained(group_r_V) - _explained(without_V)
    return losses_V


def _r_of(run: LoadedRun, subject: str, predicted_TV: Floats) -> Floats | None:
    """Return r over the test TRs that a subject has; None if there are too few."""
    rows = run.data.split.test
    own_T = run.data.present[subject][rows] if run.data.present else np.ones(len(rows), bool)
    if own_T.sum() < FEWEST_TRS:
        return None
    return pearson(predicted_TV[own_T], run.data.bold[subject][rows][own_T])


def _explained(r_V: Floats) -> Floats:
    """Return r², 0 where r is negative."""
    return np.asarray(np.maximum(r_V, 0.0) ** 2)


def _series(run: LoadedRun, group_r_V: Floats) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return measured and predicted series (T,) of each region; of the best voxels where there is no atlas."""
    sets = {region.name: region.voxels_V for region in run.regions() if region.voxels_V.any()}
    if not sets:
        geometry, position_V = run.data.study.geometry, np.flatnonzero(run.data.study.mask)[run.data.voxels_V]
        best = np.argsort(-group_r_V)[:N_VOXEL_SERIES]
        sets = {geometry.place(int(position_V[v])): np.arange(len(group_r_V)) == v for v in best}
    rows = run.data.split.test
    n_T = np.maximum(1, run.data.n_present_T()[rows])
    measured: dict[str, Floats] = {name: np.zeros(len(rows)) for name in sets}
    predicted: dict[str, Floats] = {name: np.zeros(len(rows)) for name in sets}
    for subject, predicted_TV in run.evaluator.predicted(run.model):
        own_T1 = run.data.present[subject][rows][:, None] if run.data.present else np.ones((len(rows), 1), bool)
        for name, voxels_V in sets.items():
            measured[name] += (run.data.bold[subject][rows][:, voxels_V] * own_T1).mean(axis=1) / n_T
            predicted[name] += (predicted_TV[:, voxels_V] * own_T1).mean(axis=1) / n_T
    return measured, predicted


def pooled_p(r_V: Floats, null_NV: Floats) -> NDArray[np.float64]:
    """Return p of r (V,) against a null pooled over voxels: (1 + values at least as large) / (1 + values)."""
    pool = np.sort(null_NV.ravel())
    n_larger_V = len(pool) - np.searchsorted(pool, r_V, side="left")
    return np.asarray((1.0 + n_larger_V) / (1.0 + len(pool)))


def q_values(p_V: Floats) -> NDArray[np.float64]:
    """Return the false-discovery rate at which each voxel becomes significant (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_V)
    scaled = np.asarray(p_V, float)[order] * len(p_V) / np.arange(1, len(p_V) + 1)
    q_V = np.empty(len(p_V))
    q_V[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q_V
