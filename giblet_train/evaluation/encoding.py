"""Accumulate r of predicted responses over subjects, with intervals that respect autocorrelation.

T TRs, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from giblet_train.evaluation.intervals import interval_of_sum, t_quantile
from giblet_train.evaluation.metrics import contributions_of, pearson, unit

CHANCE = 0.025
BLOCK_TRS = 20
FEWEST_BLOCKS = 3
Floats = NDArray[np.float32]
Candidate = TypeVar("Candidate", int, float)


class CorrelationAccumulator:
    """r of responsive and of null voxels, accumulated over subjects."""

    def __init__(self, responsive_V: NDArray[np.bool_], null_V: NDArray[np.bool_]) -> None:
        self.responsive_V, self.null_V = responsive_V, null_V
        self.r: list[NDArray[np.float64]] = []
        self.contributions: list[NDArray[np.float64]] = []
        self.null_contributions: list[NDArray[np.float64]] = []

    def add(self, predicted_TV: Floats, measured_TV: Floats, own_T: NDArray[np.bool_] | None = None) -> None:
        """Add one subject's predictions and responses. own_T: the rows that the subject has; None for all."""
        n_trs = len(measured_TV)
        if own_T is not None:
            predicted_TV, measured_TV = predicted_TV[own_T], measured_TV[own_T]
        self.r.append(pearson(predicted_TV, measured_TV))
        sets = ((self.responsive_V, self.contributions), (self.null_V, self.null_contributions))
        for voxels_V, contributions in sets:
            if voxels_V.any():
                influence_N = contributions_of(predicted_TV[:, voxels_V], measured_TV[:, voxels_V])
                contributions.append(place_rows(influence_N, own_T, n_trs))

    def extend(self, other: Self) -> None:
        """Add what another rank accumulated of its subjects."""
        self.r += other.r
        self.contributions += other.contributions
        self.null_contributions += other.null_contributions

    def above(self, other: CorrelationAccumulator, name: str) -> dict[str, float]:
        """Return the gain in r of responsive voxels over another model, with its paired interval."""
        if not self.contributions:
            return {}
        gain_T = np.mean(self.contributions, axis=0) - np.mean(other.contributions, axis=0)
        low, high = interval_of_sum(gain_T)
        return {name: float(gain_T.sum()), f"{name}_low": low, f"{name}_high": high}

    @property
    def r_responsive(self) -> float:
        return self._mean(self.responsive_V)

    @property
    def r_null(self) -> float:
        return self._mean(self.null_V)

    def _mean(self, voxels_V: NDArray[np.bool_]) -> float:
        if not voxels_V.any() or not self.r:
            return float("nan")
        return float(np.mean([r_V[voxels_V].mean() for r_V in self.r]))


def place_rows(values_N: NDArray[np.float64], own_T: NDArray[np.bool_] | None, n_trs: int) -> NDArray[np.float64]:
    """Return values of a subject's own rows on all rows, 0 elsewhere."""
    if own_T is None:
        return values_N
    values_T = np.zeros((n_trs, *values_N.shape[1:]))
    values_T[own_T] = values_N
    return values_T


def select_candidate(
    r: Mapping[Candidate, NDArray[np.float64]], reference: Candidate, chance: float = CHANCE
) -> Candidate:
    """Return the candidate with the highest r among those reliably better than the reference; else the reference.

    Reliably better: the paired gain in r is above 0 by a t test over blocks of TRs. A bootstrap of the few blocks of a
    validation block would be too optimistic. r: candidate -> each TR's contribution (T,) to r. chance: probability
    of accepting a candidate that is no better.
    """
    better = [candidate for candidate, r_T in r.items() if _is_reliable(r_T - r[reference], chance)]
    return max(better, key=lambda candidate: float(r[candidate].sum()), default=reference)


def _is_reliable(gain_T: NDArray[np.float64], chance: float) -> bool:
    """Return True if the sum of a gain over TRs is above 0 by a one-sided t test over blocks."""
    length = max(1, min(BLOCK_TRS, len(gain_T) // FEWEST_BLOCKS))
    n_blocks = -(-len(gain_T) // length)
    if n_blocks < FEWEST_BLOCKS:
        return False
    gain_B = np.array([block_T.sum() for block_T in np.array_split(gain_T, n_blocks)])
    error = float(gain_B.std(ddof=1)) * math.sqrt(n_blocks)
    return float(gain_B.sum()) > t_quantile(1.0 - chance, n_blocks - 1) * error


class EncodingScores(CorrelationAccumulator):
    """All encoding figures; memory does not grow with voxels × TRs × subjects."""

    def __init__(self, responsive_V: NDArray[np.bool_], null_V: NDArray[np.bool_]) -> None:
        super().__init__(responsive_V, null_V)
        self._chance: list[NDArray[np.float64]] = []
        self._unit_sum_TV: NDArray[np.float64] | None = None
        self._error, self._energy = 0.0, 0.0
        self._own_trs: list[NDArray[np.bool_]] = []
        """Rows of each subject, if any lacks some."""

    def add(self, predicted_TV: Floats, measured_TV: Floats, own_T: NDArray[np.bool_] | None = None) -> None:
        """Add one subject's predictions and responses. own_T: the rows that the subject has; None for all."""
        super().add(predicted_TV, measured_TV, own_T)
        yes, n_trs = self.responsive_V, len(measured_TV)
        if not yes.any():
            return
        if own_T is not None:
            predicted_TV, measured_TV = predicted_TV[own_T], measured_TV[own_T]
        predicted, measured = predicted_TV[:, yes], measured_TV[:, yes]
        self._error += float(((predicted - measured) ** 2).sum())
        self._energy += float((measured**2).sum())
        unit_TV = place_rows(unit(measured), own_T, n_trs)
        self._unit_sum_TV = unit_TV if self._unit_sum_TV is None else self._unit_sum_TV + unit_TV
        if own_T is not None:
            self._own_trs.append(own_T)

    def add_chance(self, chance_NV: Floats) -> None:
        """Add one subject's correlations by chance, of responsive voxels."""
        self._chance.append(chance_NV.mean(axis=1, dtype=np.float64))

    def extend(self, other: Self) -> None:
        """Add what another rank accumulated of its subjects."""
        super().extend(other)
        self._chance += other._chance
        self._own_trs += other._own_trs
        self._error += other._error
        self._energy += other._energy
        sums = [x for x in (self._unit_sum_TV, other._unit_sum_TV) if x is not None]
        self._unit_sum_TV = np.sum(sums, axis=0) if sums else None

    def figures(self) -> dict[str, float]:
        """Return all encoding figures. r_ceiling is the square root of the inter-subject correlation (ISC)."""
        r_V = np.mean(self.r, axis=0)
        figures = {
            "r_responsive": self.r_responsive,
            "r_null": self.r_null,
            "r_difference": self.r_responsive - self.r_null,
            "r_median": float(np.median(r_V)),
            "r_95th_percentile": float(np.quantile(r_V, 0.95)),
            "n_responsive": float(self.responsive_V.sum()),
            "n_null": float(self.null_V.sum()),
        }
        if self.null_contributions and self.contributions:
            null_T, yes_T = np.mean(self.null_contributions, axis=0), np.mean(self.contributions, axis=0)
            low, high = interval_of_sum(yes_T - null_T)
            figures |= {"r_difference_low": low, "r_difference_high": high}
            low, high = interval_of_sum(yes_T)
            figures |= {"r_responsive_low": low, "r_responsive_high": high}
            low, high = interval_of_sum(null_T)
            figures |= {"r_null_low": low, "r_null_high": high}
        if self._energy:
            figures["skill_responsive"] = 1.0 - self._error / self._energy
        if self._chance:
            figures["null_r_99"] = float(np.quantile(self._null(), 0.99))
        return figures | self._ceiling()

    def _null(self) -> NDArray[np.float64]:
        """Return mean correlations by chance; pooled if subjects have different numbers of them."""
        same = len({len(chance_N) for chance_N in self._chance}) == 1
        return np.asarray(np.mean(self._chance, axis=0) if same else np.concatenate(self._chance))

    def _n_shared_pairs(self) -> float:
        """Return the number of ordered pairs of subjects, each weighted by the share of rows that both have."""
        own_ST = np.stack(self._own_trs).astype(float)
        shared_SS = own_ST @ own_ST.T
        root_S = np.sqrt(np.diag(shared_SS))
        return float((shared_SS / np.outer(root_S, root_S)).sum() - len(own_ST))

    def _ceiling(self) -> dict[str, float]:
        n = len(self.r)
        if n < 2 or self._unit_sum_TV is None:
            return {}
        # The square of a sum of unit vectors holds each pair's correlation twice.
        n_pairs = n * (n - 1) if not self._own_trs else self._n_shared_pairs()
        if not n_pairs:
            return {}
        rho = float((((self._unit_sum_TV**2).sum(axis=0) - n) / n_pairs).mean())
        if rho <= 0:
            return {"isc_test": rho}
        return {
            "isc_test": rho,
            "r_ceiling": rho**0.5,
            "r_over_ceiling": self.r_responsive / rho**0.5,
            "explainable_skill": (1.0 - self._error / self._energy) / rho,
        }
