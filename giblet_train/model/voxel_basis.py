"""Compress the responses of all subjects to few numbers per TR, with the same squared error and gradient.

For a linear head and a squared error, voxels enter only through the span of the training responses. With Y = U S B,
`||Z W - Y||² = ||Z Wc - U S||²` for W = Wc B, and every minimiser and every gradient step from W = 0 has that form: T
numbers per TR stand for S·V. `joint` splits the responses into the subjects' mean and each subject's deviation from it,
whose errors add, so that the shared and the individual part can be regularised separately. Heads shaped by a prior
leave that span; `extended_by` adds them to the basis, so that the errors remain those of every voxel.

T TRs, S subjects, V voxels, R compressed numbers, N training TRs, K latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from giblet_train.schema.errors import DataError

Kind = Literal["joint", "per_subject", "none"]
Matrix = NDArray[np.float32]
Responses = Callable[[NDArray[np.intp]], Matrix]
"""Returns some rows of a subject's responses (n, V)."""
GROUP, DEVIATION = "group", "deviation"
EIGENVALUE_FLOOR = 1e-6
TILE_VOXELS = 8192
TILE_TRS = 4096


@dataclass(frozen=True)
class BasisBlock:
    """Columns of the R numbers that share a prior: `group`, `deviation`, or one subject."""

    name: str
    columns: slice


@dataclass(frozen=True)
class VoxelBasis:
    """The linear map from responses to compressed numbers (scores) and back.

    basis: subject -> ((columns, (r, V) rows or None for the identity), ...): the rows of all subjects side by side are
    orthonormal. A column that a subject does not name has nothing to do with it.
    """

    kind: Kind
    parts: tuple[BasisBlock, ...]
    basis: Mapping[str, tuple[tuple[slice, Matrix | None], ...]]
    n_voxels: int

    @property
    def n_columns(self) -> int:
        """Return R, the number of columns of all parts."""
        return max((int(part.columns.stop) for part in self.parts), default=0)

    def add_scores(self, scores_TR: Matrix, subject: str, bold_TV: Matrix) -> None:
        """Add one subject's responses (T, V) to the scores (T, R)."""
        for columns, rows_RV in self.basis[subject]:
            scores_TR[:, columns] += bold_TV if rows_RV is None else bold_TV @ rows_RV.T

    def expand(self, subject: str, scores_TR: Matrix) -> Matrix:
        """Return one subject's responses (T, V) from scores (T, R). Also maps a head (K, R) to (K, V)."""
        parts = [
            scores_TR[:, columns] if rows_RV is None else scores_TR[:, columns] @ rows_RV
            for columns, rows_RV in self.basis[subject]
        ]
        return np.asarray(np.sum(parts, axis=0, dtype=np.float32))

    def expand_average(self, scores_TR: Matrix) -> Matrix | None:
        """Return the average subject's responses (T, V) from the group part; None if there is no shared part."""
        if not self.parts or self.parts[0].name != GROUP:
            return None
        rows_of_columns = [
            rows for columns, rows in next(iter(self.basis.values())) if columns == self.parts[0].columns
        ]
        assert rows_of_columns[0] is not None, "what people share is compressed"
        return np.asarray(scores_TR[:, self.parts[0].columns] @ rows_of_columns[0], np.float32)

    def extended_by(self, group_KV: Matrix, own: Mapping[str, Matrix]) -> tuple[VoxelBasis, Matrix]:
        """Return a basis that also spans these heads, and the heads in it, (K, R).

        group_KV: heads shared by all subjects. own: subject -> (K, V), each subject's deviation, zero in sum; empty for
        a single subject. New rows are orthogonal to the basis, so training responses score 0 there.
        """
        subjects = tuple(self.basis)

        def heads_of(part: BasisBlock, subject: str) -> Matrix:
            if part.name == DEVIATION:
                return own[subject]
            return group_KV if part.name == GROUP or subject not in own else group_KV + own[subject]

        if self.kind == "none":
            return self, np.concatenate([group_KV[:, :0], *(heads_of(p, p.name) for p in self.parts)], axis=1)
        parts: list[BasisBlock] = []
        heads = [group_KV[:, :0]]
        wider: dict[str, tuple[tuple[slice, Matrix | None], ...]] = dict.fromkeys(subjects, ())
        for part in self.parts:
            rows = {s: r for s in subjects for columns, r in self.basis[s] if columns == part.columns and r is not None}
            # All subjects have the group's rows, and keep sharing one array of them.
            row_owners = subjects[:1] if part.name == GROUP else tuple(rows)
            part_heads_KR, part_rows = _extend_basis(
                [rows[s] for s in row_owners],
                [heads_of(part, s) for s in row_owners],
                len(rows) // len(row_owners),
            )
            start = parts[-1].columns.stop if parts else 0
            columns = slice(start, start + part_heads_KR.shape[1])
            parts.append(BasisBlock(part.name, columns))
            heads.append(part_heads_KR)
            for n, subject in enumerate(rows):
                wider[subject] += ((columns, part_rows[n % len(row_owners)]),)
        return VoxelBasis(self.kind, tuple(parts), wider, self.n_voxels), np.concatenate(heads, axis=1)


def compress(
    kind: Kind, bold: Mapping[str, Matrix], train: NDArray[np.intp], subjects: Sequence[str] | None = None
) -> VoxelBasis:
    """Fit a basis on training TRs alone.

    bold: subject -> (T, V), z-scored over training TRs; each subject is read a few times and never kept.
    train: indices of the N training TRs. subjects: those to compress, all if None; `joint` knows only all together.
    Raises DataError when the responses are constant there.
    """
    subjects = tuple(bold if subjects is None else subjects)
    n_voxels = bold[next(iter(bold))].shape[1]
    if kind == "none":
        parts = [BasisBlock(s, slice(i * n_voxels, (i + 1) * n_voxels)) for i, s in enumerate(subjects)]
        return VoxelBasis(kind, tuple(parts), {p.name: ((p.columns, None),) for p in parts}, n_voxels)
    if kind == "per_subject":
        return _per_subject(bold, subjects, train, n_voxels)
    return _joint(bold, train, n_voxels)


def _per_subject(
    bold: Mapping[str, Matrix], subjects: Sequence[str], train: NDArray[np.intp], n_voxels: int
) -> VoxelBasis:
    parts: list[BasisBlock] = []
    basis: dict[str, tuple[tuple[slice, Matrix | None], ...]] = {}
    start = 0
    for subject in subjects:
        (rows_RV,) = _row_space([bold[subject].__getitem__], train, n_voxels)
        columns = slice(start, start + len(rows_RV))
        parts.append(BasisBlock(subject, columns))
        basis[subject] = ((columns, rows_RV),)
        start = columns.stop
    return VoxelBasis("per_subject", tuple(parts), basis, n_voxels)


def _joint(bold: Mapping[str, Matrix], train: NDArray[np.intp], n_voxels: int) -> VoxelBasis:
    subjects = tuple(bold)
    mean_NV = np.zeros((len(train), n_voxels), np.float32)
    for subject in subjects:
        mean_NV += bold[subject][train]
    mean_NV /= len(subjects)
    place_T = np.zeros(train.max() + 1, np.intp)
    place_T[train] = np.arange(len(train))

    def mean_of(rows: NDArray[np.intp]) -> Matrix:
        return np.asarray(mean_NV[place_T[rows]])

    def deviation_of(subject: str) -> Responses:
        return lambda rows: np.asarray(bold[subject][rows] - mean_of(rows), np.float32)

    (group_RV,) = _row_space([mean_of], train, n_voxels)
    group_RV /= np.float32(np.sqrt(len(subjects)))
    group = BasisBlock(GROUP, slice(0, len(group_RV)))
    if len(subjects) == 1:
        return VoxelBasis("joint", (group,), {subjects[0]: ((group.columns, group_RV),)}, n_voxels)
    deviation_rows = _row_space([deviation_of(subject) for subject in subjects], train, n_voxels)
    deviation = BasisBlock(DEVIATION, slice(group.columns.stop, group.columns.stop + len(deviation_rows[0])))
    basis = {
        subject: ((group.columns, group_RV), (deviation.columns, rows_RV))
        for subject, rows_RV in zip(subjects, deviation_rows, strict=True)
    }
    return VoxelBasis("joint", (group, deviation), basis, n_voxels)


def _row_space(series: Sequence[Responses], train: NDArray[np.intp], n_voxels: int) -> list[Matrix]:
    """Return orthonormal rows (R, V) of each series that span their training responses, side by side.

    Decomposes inner products of TRs or of voxels, whichever are fewer.
    """
    if len(series) * n_voxels >= len(train):
        gram_NN = np.zeros((len(train), len(train)))
        for bold in series:
            gram_NN += _gram(bold(train))
        whitener_RN = _whitener(gram_NN)
        return [whitener_RN @ bold(train) for bold in series]
    gram_VV = np.zeros((len(series) * n_voxels, len(series) * n_voxels))
    for start in range(0, len(train), TILE_TRS):
        rows_NV = np.concatenate([bold(train[start : start + TILE_TRS]) for bold in series], axis=1)
        gram_VV += rows_NV.T @ rows_NV
    vectors_VR, _ = _large_axes(gram_VV)
    return [np.ascontiguousarray(part_VR.T, np.float32) for part_VR in np.split(vectors_VR, len(series))]


def _extend_basis(rows: Sequence[Matrix], heads: Sequence[Matrix], times: int) -> tuple[Matrix, list[Matrix]]:
    """Return heads (K, R) in an extended basis, and its rows: the given ones and those that the heads add.

    Args:
        rows: (r, V) of each subject; side by side they are orthonormal.
        heads: (K, V) of each subject.
        times: how many subjects share each entry.
    """
    inside_KR = np.float32(times) * np.sum([head @ r.T for head, r in zip(heads, rows, strict=True)], axis=0)
    rest = [head - inside_KR @ r for head, r in zip(heads, rows, strict=True)]
    values_K, vectors_KK = np.linalg.eigh(times * np.sum([_gram(x) for x in rest], axis=0))
    large_K = values_K > EIGENVALUE_FLOOR * times * np.sum([_gram(head).trace() for head in heads])
    mixed_RK = (fix_eigenvector_signs(vectors_KK[:, large_K]) / np.sqrt(values_K[large_K])).T.astype(np.float32)
    more = [mixed_RK @ x for x in rest]
    outside_KR = np.float32(times) * np.sum([x @ m.T for x, m in zip(rest, more, strict=True)], axis=0)
    return np.concatenate([inside_KR, outside_KR], axis=1), [
        np.concatenate([r, m]) for r, m in zip(rows, more, strict=True)
    ]


def _gram(bold_NV: Matrix) -> NDArray[np.float64]:
    """Return the inner products of TRs, summed in double precision a tile of voxels at a time."""
    gram_NN = np.zeros((len(bold_NV), len(bold_NV)))
    for start in range(0, bold_NV.shape[1], TILE_VOXELS):
        tile = bold_NV[:, start : start + TILE_VOXELS].astype(np.float64)
        gram_NN += tile @ tile.T
    return gram_NN


def _whitener(gram_NN: NDArray[np.float64]) -> Matrix:
    """Return S^-1 U^T (R, N) of responses from their Gram matrix, without directions of no variance."""
    vectors_NR, values_R = _large_axes(gram_NN)
    return np.asarray((vectors_NR / np.sqrt(values_R)).T, np.float32)


def _large_axes(gram_NN: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return eigenvectors (N, R) and their eigenvalues, the largest first. Raises DataError if there are none."""
    values_N, vectors_NN = np.linalg.eigh(gram_NN)
    # Centring leaves one direction with nothing but rounding in it; dividing by that would fill the basis with noise.
    large_N = values_N > EIGENVALUE_FLOOR * max(float(values_N[-1]), 0.0)
    if not np.isfinite(values_N).all() or not large_N.any():
        raise DataError(
            "The responses are constant over the training TRs, or not finite.",
            "Run `python -m giblet_train data check`.",
        )
    order = np.flatnonzero(large_N)[::-1]
    return fix_eigenvector_signs(vectors_NN[:, order]), values_N[order]


def fix_eigenvector_signs(vectors_NR: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make each column's largest entry positive, so that a resumed run rebuilds the same basis."""
    largest_R = np.take_along_axis(vectors_NR, np.abs(vectors_NR).argmax(axis=0)[None], axis=0)
    return np.asarray(vectors_NR * np.where(largest_R < 0, -1.0, 1.0))
