"""Slow drift of the scanner, taken out of each block of the split by what that block alone says.

A block is treated as the field treats a run: its mean, and if asked its slow cosines, are regressed out of it (SPM's
high-pass filter). Nothing of one block reaches another, so no held-out value reaches a fitted parameter; and what is
taken out of a held-out block depends on neither the film nor any prediction. Predictions of a block pass through the
same filter before they are compared with it.

T TRs, N TRs of a block, K courses, B blocks, V voxels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

CHUNK_TRS = 16
TRS_PER_COURSE = 3

Floats = NDArray[np.floating[Any]]
Block = tuple[int, int]


@dataclass(frozen=True)
class Detrend:
    """Definition of drift."""

    kind: float | Literal["mean", "none"] = "none"
    """`none`, `mean`, or a period in seconds: cosines with a longer period are removed as well."""
    tr_s: float = 1.0

    def regressors(self, n_trs: int) -> NDArray[np.float64]:
        """Return (N, K) orthonormal regressors of a block: a constant, and cosines k = 1 .. 2·N·tr_s / period.

        A block with fewer than TRS_PER_COURSE TRs per regressor loses only its mean.
        """
        if self.kind == "none":
            return np.zeros((n_trs, 0))
        n_cosines = 0 if self.kind == "mean" else math.floor(2.0 * n_trs * self.tr_s / self.kind)
        if n_trs < TRS_PER_COURSE * (n_cosines + 1):
            n_cosines = 0
        phase_N = (np.arange(n_trs) + 0.5) / n_trs
        courses_NK: NDArray[np.float64] = np.cos(math.pi * np.outer(phase_N, np.arange(n_cosines + 1)))
        return np.asarray(courses_NK / np.linalg.norm(courses_NK, axis=0))

    def apply(self, series_TV: Floats, blocks: Sequence[Block]) -> Floats:
        """Return series over the TRs of `blocks`, one block after another, without the drift of each."""
        parts, start = [], 0
        for first, stop in blocks:
            part_NV = series_TV[start : start + stop - first]
            courses_NK = self.regressors(stop - first).astype(series_TV.dtype)
            parts.append(part_NV - courses_NK @ (courses_NK.T @ part_NV))
            start += stop - first
        return np.concatenate(parts)


@dataclass(frozen=True)
class DetrendedBold:
    """A subject's series without drift; rows are computed on access and are 0 outside all blocks."""

    stored_TV: Any
    """Array, or an object that gives its rows."""
    block_T: NDArray[np.intp]
    """Block of each TR, -1 outside."""
    courses_TK: NDArray[np.float32]
    """Regressors of each block, padded with zeros."""
    weights_BKV: NDArray[np.float32]
    """Regression weights per block."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (T, V)."""
        return tuple(self.stored_TV.shape)

    def __len__(self) -> int:
        return len(self.block_T)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Compute the rows, (len(rows), V) float32."""
        freed_RV = np.array(self.stored_TV[rows], np.float32)
        block_R, courses_RK = self.block_T[rows], self.courses_TK[rows]
        for block in np.unique(block_R):
            here = block_R == block
            freed_RV[here] = 0.0 if block < 0 else freed_RV[here] - courses_RK[here] @ self.weights_BKV[block]
        return freed_RV


def present_blocks(blocks: Sequence[Block], present_T: NDArray[np.bool_]) -> tuple[Block, ...]:
    """Return the stretches of the blocks that a subject has."""
    result: list[Block] = []
    for first, stop in blocks:
        edges = np.flatnonzero(np.diff(np.r_[False, present_T[first:stop], False].astype(int))) + first
        result.extend((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))
    return tuple(result)


def without_drift(stored_TV: Any, blocks: Sequence[Block], drift: Detrend) -> DetrendedBold:
    """Remove the drift of each block, fitted to the rows of that block alone."""
    courses = [drift.regressors(stop - first) for first, stop in blocks]
    widest = max(courses_NK.shape[1] for courses_NK in courses)
    block_T = np.full(len(stored_TV), -1, np.intp)
    courses_TK = np.zeros((len(stored_TV), widest), np.float32)
    weights_BKV = np.zeros((len(blocks), widest, stored_TV.shape[1]), np.float32)
    for block, ((first, stop), courses_NK) in enumerate(zip(blocks, courses, strict=True)):
        n_courses = courses_NK.shape[1]
        block_T[first:stop] = block
        courses_TK[first:stop, :n_courses] = courses_NK
        weights_KV = np.zeros((n_courses, stored_TV.shape[1]))
        for start in range(first, stop, CHUNK_TRS):
            rows = slice(start, min(start + CHUNK_TRS, stop))
            weights_KV += courses_NK[start - first : rows.stop - first].T @ np.asarray(stored_TV[rows], np.float64)
        weights_BKV[block, :n_courses] = weights_KV
    return DetrendedBold(stored_TV, block_T, courses_TK, weights_BKV)
