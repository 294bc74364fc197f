"""One subject's volumes streamed into a .npy file: centred, in half precision where that loses nothing that matters.

T TRs, B TRs of a chunk, V voxels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.volumes import Volumes, stream
from giblet_train.schema.errors import DataError

MAX_ROUNDING = 1e-3


class _TooCoarse(Exception):
    """Half precision cannot hold this subject's values."""


def write_bold_array(
    path: Path,
    volumes: Volumes,
    mask: NDArray[np.bool_],
    n_trs: int,
    used_V: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Write the first n_trs volumes at `path` as (T, V), each minus the first; returns that first one, (V,).

    float16, or float32 where rounding to float16 would exceed a thousandth of most voxels' standard deviation.
    Raises DataError for a damaged file and for values that are not finite.

    Args:
        used_V: Voxels that a mask file keeps. Values that are not finite elsewhere are stored as 0.
    """
    used_V = np.ones(int(np.count_nonzero(mask)), bool) if used_V is None else used_V
    try:
        return _write(path, volumes, mask, n_trs, used_V, np.dtype(np.float16))
    except _TooCoarse:
        return _write(path, volumes, mask, n_trs, used_V, np.dtype(np.float32))


def _write(
    path: Path,
    volumes: Volumes,
    mask: NDArray[np.bool_],
    n_trs: int,
    used_V: NDArray[np.bool_],
    dtype: np.dtype[Any],
) -> NDArray[np.float32]:
    n_voxels = int(np.count_nonzero(mask))
    sum_V, square_V, lost_V = np.zeros(n_voxels), np.zeros(n_voxels), np.zeros(n_voxels)
    reference_V = np.zeros(n_voxels, np.float32)
    with open(path, "wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": dtype.str, "fortran_order": False, "shape": (n_trs, n_voxels)}
        )
        for start, bold_BV in stream(volumes, mask, n_trs):
            _check_finite(bold_BV, start, volumes, used_V)
            if start == 0:
                reference_V = bold_BV[0].copy()
            bold_BV -= reference_V
            with np.errstate(over="ignore"):
                stored_BV = bold_BV.astype(dtype)
            file.write(np.ascontiguousarray(stored_BV).data)
            if dtype == np.float16:
                sum_V += bold_BV.sum(axis=0)
                square_V += np.einsum("bv,bv->v", bold_BV, bold_BV)
                bold_BV -= stored_BV
                lost_V += np.einsum("bv,bv->v", bold_BV, bold_BV)
    if dtype == np.float16 and not _fine_enough(sum_V / n_trs, square_V / n_trs, lost_V / n_trs):
        raise _TooCoarse
    return reference_V


def _fine_enough(mean_V: NDArray[np.float64], power_V: NDArray[np.float64], lost_V: NDArray[np.float64]) -> bool:
    """Return True if rounding stays below MAX_ROUNDING of the standard deviation in nearly all voxels that vary."""
    variance_V = power_V - mean_V**2
    varying_V = variance_V > 1e-12 * power_V
    fine_V = lost_V[varying_V] <= MAX_ROUNDING**2 * variance_V[varying_V]
    return bool(np.isfinite(lost_V).all() and (not fine_V.size or fine_V.mean() > 0.99))


def _check_finite(bold_BV: NDArray[np.float32], start: int, volumes: Volumes, used_V: NDArray[np.bool_]) -> None:
    """Raise DataError for values that are not finite; set those of unused voxels to 0."""
    if np.isfinite(bold_BV.sum(dtype=np.float64)):
        return
    bad_BV = ~np.isfinite(bold_BV)
    bold_BV[bad_BV & ~used_V] = 0.0
    bad_BV &= used_V
    if not bad_BV.any():
        return
    first = start + int(bad_BV.any(axis=1).argmax())
    raise DataError(
        f"{volumes.path.name} has values that are not numbers in {int(bad_BV.any(axis=0).sum())} voxels, "
        f"first in TR {first}.",
        "Interpolate them, mask the voxels out, or leave the subject out by data.subjects.",
    )
