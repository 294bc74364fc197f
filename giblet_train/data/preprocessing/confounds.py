"""Confounds of a scan, such as motion: read from fMRIPrep's tables and taken out by what the training TRs say.

T TRs, R training TRs, V voxels, N confounds, C scans.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.rows import Rows
from giblet_train.schema.config import nearest
from giblet_train.schema.errors import DataError
from giblet_train.schema.regular_file import without_waiting

CHUNK_TRS = 16
TRS_PER_CONFOUND = 3

Floats = NDArray[np.floating[Any]]


class ConfoundRows(NamedTuple):
    """Volumes of a run whose confounds are read."""

    table: Path
    file_trs: int
    """Volumes of the run's file; the table has a row for each."""
    first: int
    """First volume that is read."""
    n_trs: int


def read_run_confounds(parts: Sequence[ConfoundRows], patterns: Sequence[str]) -> Floats:
    """Read the confounds of a subject's series, one part after another, (T, N).

    A column that some runs lack, such as `motion_outlier05`, is 0 in those. Raises what `read_confounds` does, and
    DataError for a pattern that no run has a column for.
    """
    tables = {part.table: read_confounds(part.table, patterns, part.file_trs) for part in parts}
    runs = [tables[part.table] for part in parts]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for names, _ in runs for name in names):
            header = _read_table(parts[0].table)[0]
            sentence = f"{parts[0].table.name} has no column {pattern}{nearest(pattern, header)}"
            raise DataError(sentence, "Correct data.bids.confounds.")
    columns = list(dict.fromkeys(name for names, _ in runs for name in names))
    values_TN = np.zeros((sum(part.n_trs for part in parts), len(columns)), np.float32)
    start = 0
    for part, (names, run_TN) in zip(parts, runs, strict=True):
        rows = slice(start, start + part.n_trs)
        values_TN[rows, [columns.index(name) for name in names]] = run_TN[part.first : part.first + part.n_trs]
        start += part.n_trs
    return values_TN


def read_confounds(path: Path, patterns: Sequence[str], n_trs: int) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Read the columns that match the patterns, such as `trans_*`. Returns their names and values, (T, N).

    A value missing in the first row, as in derivatives, is taken from the second.
    Raises DataError for a number of rows other than n_trs and for missing values.
    """
    header, *rows = _read_table(path)
    names = tuple(dict.fromkeys(name for pattern in patterns for name in header if fnmatchcase(name, pattern)))
    if len(rows) != n_trs:
        raise DataError(f"{path.name} has {len(rows)} rows, its run has {n_trs} volumes.", "Use the run's own table.")
    columns = [header.index(name) for name in names]
    values_TN = np.array([[_number(row[c]) for c in columns] for row in rows], np.float32).reshape(n_trs, -1)
    if n_trs > 1:
        values_TN[0] = np.where(np.isnan(values_TN[0]), values_TN[1], values_TN[0])
    bad = [name for name, column_T in zip(names, values_TN.T, strict=True) if not np.isfinite(column_T).all()]
    if bad:
        raise DataError(
            f"{path.name}: {', '.join(bad)} has values that are no numbers.", "Leave it out of data.bids.confounds."
        )
    return names, values_TN


def _read_table(path: Path) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8-sig", newline="", opener=without_waiting) as file:
            table = list(csv.reader(file, delimiter="\t"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}.", "Correct data.bids.confounds.") from None
    if not table:
        raise DataError(f"{path} is empty.", "Correct data.bids.confounds.")
    return table


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


@dataclass(frozen=True)
class DeconfoundedBold:
    """A subject's stored series with the confounds regressed out; rows are computed on access."""

    stored_TV: Rows
    confounds_TN: NDArray[np.float32]
    """Confounds, centred and scaled."""
    weights_CNV: NDArray[np.float32]
    """Regression weights per scan."""
    scan_T: NDArray[np.intp]
    """Scan of each TR."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (T, V)."""
        return self.stored_TV.shape

    def __len__(self) -> int:
        return len(self.stored_TV)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[np.float32]:
        """Compute the rows, (len(rows), V) float32; means over training TRs equal those of the stored series."""
        cleaned_BV = np.array(self.stored_TV[rows], np.float32)
        scan_B, confounds_BN = self.scan_T[rows], self.confounds_TN[rows]
        for scan in np.unique(scan_B):
            here = scan_B == scan
            cleaned_BV[here] -= confounds_BN[here] @ self.weights_CNV[scan]
        return cleaned_BV


def without_confounds(
    stored_TV: Rows, confounds_TN: Floats, train: NDArray[np.intp], scan_lengths_trs: Sequence[int]
) -> DeconfoundedBold:
    """Regress the confounds out: least squares with a constant, fitted to the training TRs of each scan.

    A scan with fewer than TRS_PER_CONFOUND training TRs per confound takes the weights of all training TRs.
    Raises DataError if even those are too few.
    """
    n_confounds = confounds_TN.shape[1]
    enough = TRS_PER_CONFOUND * n_confounds
    if len(train) < enough:
        raise DataError(
            f"{n_confounds} confounds need {enough} training TRs to be regressed out; there are {len(train)}.",
            "Name fewer in data.bids.confounds.",
        )
    scan_T = np.repeat(np.arange(len(scan_lengths_trs)), scan_lengths_trs)
    applied_TN = np.empty(confounds_TN.shape, np.float32)
    weights_CNV = np.empty((len(scan_lengths_trs), n_confounds, stored_TV.shape[1]), np.float32)
    for scan in range(len(scan_lengths_trs)):
        own = train[scan_T[train] == scan]
        rows = own if len(own) >= enough else train
        scaled_TN = _scaled(confounds_TN, rows)
        applied_TN[scan_T == scan] = scaled_TN[scan_T == scan]
        weights_CNV[scan] = _weights(stored_TV, scaled_TN, rows, scan_T)
    return DeconfoundedBold(stored_TV, applied_TN, weights_CNV, scan_T)


def _scaled(confounds_TN: Floats, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Z-score all TRs by mean and sd over `rows`; a confound that is constant there becomes 0."""
    values_TN = np.asarray(confounds_TN, np.float64)
    centred_TN = values_TN - values_TN[rows].mean(axis=0)
    sd_N = values_TN[rows].std(axis=0)
    varies_N = sd_N > 1e-9 * np.abs(values_TN[rows]).max(axis=0)
    scaled_TN: NDArray[np.float64] = np.divide(centred_TN, sd_N, out=np.zeros_like(centred_TN), where=varies_N)
    return scaled_TN


def _weights(
    stored_TV: Rows, scaled_TN: NDArray[np.float64], rows: NDArray[np.intp], scan_T: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Fit the weights, (N, V). Confounds centred in each scan stand in for a constant per scan."""
    scaled_RN = scaled_TN[rows]
    for scan in np.unique(scan_T[rows]):
        here = scan_T[rows] == scan
        scaled_RN[here] -= scaled_RN[here].mean(axis=0)
    solve_NR = np.linalg.pinv(scaled_RN)
    weights_NV = np.zeros((scaled_TN.shape[1], stored_TV.shape[1]))
    for first in range(0, len(rows), CHUNK_TRS):
        chunk = slice(first, first + CHUNK_TRS)
        weights_NV += solve_NR[:, chunk] @ np.asarray(stored_TV[rows[chunk]], np.float64)
    return weights_NV.astype(np.float32)
