"""Rows of a series over time: an array, or an object that computes or places them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """A (T, V) array, or an object that gives its rows like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> NDArray[np.floating[Any]]: ...


@dataclass(frozen=True)
class PartialRows:
    """(T, V) responses of a subject who lacks some rows; those are 0."""

    stored_NV: NDArray[Any]
    """Rows that the subject has, in order."""
    position_T: NDArray[np.intp]
    """Position of each row in stored_NV, -1 if the subject does not have it."""

    @classmethod
    def of(cls, stored_NV: NDArray[Any], ranges: Sequence[Sequence[int]], n_trs: int) -> PartialRows:
        """Place stored rows, in order, into the given row ranges."""
        position_T = np.full(n_trs, -1, np.intp)
        n_rows = 0
        for first, stop in ranges:
            position_T[first:stop] = np.arange(n_rows, n_rows + stop - first)
            n_rows += stop - first
        return cls(stored_NV, position_T)

    def part(self, first: int, stop: int) -> PartialRows:
        """Return some rows."""
        position_T = self.position_T[first:stop]
        own = position_T[position_T >= 0]
        start = int(own[0]) if len(own) else 0
        return PartialRows(self.stored_NV[start : start + len(own)], np.where(position_T >= 0, position_T - start, -1))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (T, V)."""
        return len(self.position_T), *self.stored_NV.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the values."""
        return self.stored_NV.dtype

    def __len__(self) -> int:
        return len(self.position_T)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return one row, rows (len(rows), V), or rows and columns by a pair."""
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            one_V: NDArray[Any] = self[[rows]][0][columns]
            return one_V
        position_R = self.position_T[rows]
        values_RV = np.zeros((len(position_R), *self.stored_NV.shape[1:]), self.stored_NV.dtype)
        values_RV[position_R >= 0] = self.stored_NV[position_R[position_R >= 0]]
        return values_RV[:, columns]
