"""Measure how reliably a subject responds to seconds of a stimulus that it saw more than once.

The root of the correlation between two showings is a noise ceiling that needs no other subject: no model can predict a
single response better (Schoppe et al. 2016). T TRs, R rows of a showing, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.row_plan import ROUNDED_TRS, Span
from giblet_train.data.rows import Rows
from giblet_train.evaluation.metrics import pearson

FEWEST_TRS = 20
"""A correlation of fewer rows says little."""

Showings = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class Reliability:
    """Agreement of a subject's responses to the same seconds."""

    n_trs: int
    """Rows that were shown again."""
    r: float
    """Mean correlation of two showings over the given voxels."""

    @property
    def ceiling(self) -> float:
        """Return the highest correlation that a prediction can reach; 0 without any reliability."""
        return float(np.sqrt(max(0.0, self.r)))


def repeated_rows(spans: Sequence[Span], tr_s: float) -> list[Showings]:
    """Return the rows of every two showings of the same seconds, in the same order."""
    pairs: list[Showings] = []
    for first, second in combinations(spans, 2):
        shift_trs = (second.start_s - first.start_s) / tr_s
        if first.stimulus != second.stimulus or abs(shift_trs - round(shift_trs)) > ROUNDED_TRS:
            continue
        start = max(0, round(shift_trs))
        stop = min(first.n_trs, second.n_trs + round(shift_trs))
        if stop > start:
            rows = np.arange(start, stop)
            pairs.append((first.first + rows, second.first + rows - round(shift_trs)))
    return pairs


def repeat_reliability(
    bold: Mapping[str, Rows],
    present: Mapping[str, NDArray[np.bool_]],
    showings: Sequence[Showings],
    voxels_V: NDArray[np.bool_],
) -> dict[str, Reliability]:
    """Return the reliability of each subject who saw at least FEWEST_TRS rows again.

    Args:
        bold: Subject -> (T, V) responses.
        present: Subject -> (T,), True for the rows that it has; empty if all have all.
        voxels_V: Voxels to average over.
    """
    if not voxels_V.any():
        return {}
    reliability = {}
    for subject, bold_TV in bold.items():
        parts = []
        for first, second in showings:
            both = present[subject][first] & present[subject][second] if present else np.ones(len(first), bool)
            if both.sum() >= FEWEST_TRS:
                r_V = pearson(bold_TV[first[both]][:, voxels_V], bold_TV[second[both]][:, voxels_V])
                parts.append((int(both.sum()), float(r_V.mean())))
        if parts:
            n_trs = sum(n for n, _ in parts)
            reliability[subject] = Reliability(n_trs, sum(n * r for n, r in parts) / n_trs)
    return reliability
