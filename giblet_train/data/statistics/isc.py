"""Inter-subject correlation: how much of a voxel's response the subjects share, and its null by circular shifts.

With one viewing per subject there are no repeats, so agreement between subjects replaces them (Hasson et al. 2004).
S subjects, R training TRs, V voxels, N voxels sampled for the null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NULL_VOXELS = 4096
NULL_DRAWS = 25
NULL_MIN_SHIFT_TRS = 20
SCALE_TOLERANCE = 1e-3
CONSTANT_SD = 1e-6


@dataclass(frozen=True)
class IscResult:
    """Inter-subject correlation and its null."""

    isc_V: NDArray[np.float32]
    """Mean correlation of all pairs of subjects."""
    null: NDArray[np.float32]
    """The same under circular shifts, voxels pooled."""

    def above_chance(self, percentile: float = 99.0) -> NDArray[np.bool_]:
        """Return (V,): voxels whose correlation exceeds that percentile of the null."""
        return self.isc_V > np.percentile(self.null, percentile)

    def at_chance(self, percentile: float = 75.0) -> NDArray[np.bool_]:
        """Return (V,): voxels whose correlation is below that percentile of the null."""
        return self.isc_V < np.percentile(self.null, percentile)


def shared_response(
    bold: Mapping[str, NDArray[np.float32]],
    train: NDArray[np.intp],
    present: Mapping[str, NDArray[np.bool_]] | None = None,
) -> IscResult:
    """Correlate subjects over the training TRs, one subject in memory at a time.

    With unit variances the mean over pairs is (E[(Σ z)²] − Σ E[z²]) / (S (S − 1)).

    Args:
        bold: Subject -> (T, V), z-scored over the rows `train`; at least two subjects.
        present: Subject -> (T,), True for the rows that it has, 0 elsewhere; each pair counts in the rows of both.
            None or empty if all have all rows.
    """
    if present:
        return _partial(bold, train, present)
    samples: list[NDArray[np.float32]] = []
    total_RV: NDArray[np.float32] | None = None
    powers: list[NDArray[np.float32]] = []
    for subject in bold:
        rows_RV = _unit_variance(bold[subject][train])
        samples.append(rows_RV[:, :: max(1, rows_RV.shape[1] // NULL_VOXELS)].copy())
        powers.append(np.einsum("rv,rv->v", rows_RV, rows_RV) / len(train))
        total_RV = rows_RV if total_RV is None else np.add(total_RV, rows_RV, out=total_RV)
    if total_RV is None or len(samples) < 2:
        raise ValueError("inter-subject correlation needs two subjects")
    return IscResult(_mean_pair(total_RV, np.sum(powers, axis=0), len(samples)), _null(np.stack(samples)))


def _unit_variance(rows_RV: NDArray[np.float32]) -> NDArray[np.float32]:
    """Z-score the rows, unless all voxels that vary are z-scored already.

    Scans with few training TRs have the scale of all scans, so that theirs may have another mean and variance.
    """
    mean_V = rows_RV.mean(axis=0, dtype=np.float64)
    power_V = np.einsum("rv,rv->v", rows_RV, rows_RV) / len(rows_RV)
    sd_V = np.sqrt(np.maximum(power_V - mean_V**2, 0.0))
    varies_V = sd_V > CONSTANT_SD
    if np.abs(mean_V).max() < SCALE_TOLERANCE and np.abs(sd_V[varies_V] - 1.0).max(initial=0.0) < SCALE_TOLERANCE:
        return rows_RV
    centred_RV = rows_RV - mean_V
    return np.asarray(np.divide(centred_RV, sd_V, out=np.zeros_like(centred_RV), where=varies_V), np.float32)


def _partial(
    bold: Mapping[str, NDArray[np.float32]], train: NDArray[np.intp], present: Mapping[str, NDArray[np.bool_]]
) -> IscResult:
    """Correlate subjects who share only some rows: a mean over pairs, weighted by the rows that they share."""
    rows = train[np.sum(list(present.values()), axis=0)[train] > 1]
    present_SR = np.stack([present[s][rows] for s in bold])
    total_RV, powers, samples = None, [], []
    for subject in bold:
        rows_RV = bold[subject][rows]
        samples.append(rows_RV[:, :: max(1, rows_RV.shape[1] // NULL_VOXELS)].copy())
        powers.append(np.einsum("rv,rv->v", rows_RV, rows_RV))
        total_RV = rows_RV if total_RV is None else np.add(total_RV, rows_RV, out=total_RV)
    assert total_RV is not None
    isc_V = _mean_shared_pair(total_RV, np.sum(powers, axis=0), present_SR.sum(axis=0))
    return IscResult(isc_V, _null(np.stack(samples), present_SR))


def _mean_shared_pair(
    total_RV: NDArray[np.float32], power_V: NDArray[np.float32], n_R: NDArray[np.intp]
) -> NDArray[np.float32]:
    joint_V = np.einsum("rv,rv->v", total_RV, total_RV)
    return np.asarray((joint_V - power_V) / max(1, int((n_R * (n_R - 1)).sum())), np.float32)


def _mean_pair(total_RV: NDArray[np.float32], power_V: NDArray[np.float32], n_subjects: int) -> NDArray[np.float32]:
    joint_V = np.einsum("rv,rv->v", total_RV, total_RV) / len(total_RV)
    return np.asarray((joint_V - power_V) / (n_subjects * (n_subjects - 1)), np.float32)


def _null(sampled_SRN: NDArray[np.float32], present_SR: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    n_subjects, n_rows, _ = sampled_SRN.shape
    power_N = np.einsum("srn,srn->n", sampled_SRN, sampled_SRN) / n_rows
    shortest = min(NULL_MIN_SHIFT_TRS, n_rows // 4)
    random = np.random.Generator(np.random.Philox(key=[0, n_rows]))
    draws = []
    for _ in range(NULL_DRAWS):
        shifts_S = _spread_shifts(random, n_subjects, n_rows, shortest)
        total_RN = np.zeros_like(sampled_SRN[0])
        for rows_RN, shift in zip(sampled_SRN, shifts_S, strict=True):
            total_RN += np.roll(rows_RN, shift, axis=0)
        if present_SR is None:
            draws.append(_mean_pair(total_RN, power_N, n_subjects))
            continue
        n_R = np.sum([np.roll(p, shift) for p, shift in zip(present_SR, shifts_S, strict=True)], axis=0)
        draws.append(_mean_shared_pair(total_RN, power_N * n_rows, n_R))
    return np.concatenate(draws)


def _spread_shifts(random: np.random.Generator, n_subjects: int, n_rows: int, shortest: int) -> list[int]:
    """Draw a shift per subject; any two differ by at least `shortest` if that fits around the circle."""
    apart = min(shortest, n_rows // n_subjects)
    slack = random.multinomial(n_rows - apart * n_subjects, np.full(n_subjects, 1 / n_subjects))
    places = np.cumsum(apart + slack)
    return [int(p) for p in random.permutation(places)]
