"""Separate voxels of the brain from air and bone around it, and first volumes from the steady state, by signal.

T TRs, V voxels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BRIGHT_QUANTILE = 0.95
DARK_LEVEL = 0.15
"""Share of the signal of bright voxels below which a voxel is dark: outside the head, or without signal."""

DARK_SHARE = 0.25
"""Share of dark voxels from which a scan is not masked; a rim of bone and fluid around the brain makes fewer."""

FIRST_TRS = 10
"""Volumes at the beginning of a run that may not be in the steady state."""
STEADY_MADS = 15.0
"""Distance from the rest, in median absolute deviations, from which a first volume is not in the steady state."""


def dark_voxels(signal_V: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return (V,): voxels far darker than bright ones; none where the mean was removed, as from z-scores.

    signal_V: a volume of the scan, in its own units.
    """
    lowest, bright = np.nanquantile(signal_V, (1.0 - BRIGHT_QUANTILE, BRIGHT_QUANTILE))
    if lowest < -DARK_LEVEL * bright or bright <= 0:
        return np.zeros(signal_V.shape, bool)
    return np.asarray(~(signal_V >= DARK_LEVEL * bright))


def unsteady_trs(mean_T: NDArray[np.floating[Any]]) -> int:
    """Count first volumes of a run far from the rest: dummy scans that are zero, or T1-bright ones.

    mean_T: mean signal of each volume of one run.
    """
    rest_T = mean_T[FIRST_TRS:]
    if len(rest_T) < FIRST_TRS:
        return 0
    spread = max(float(np.median(np.abs(rest_T - np.median(rest_T)))), 1e-6 * abs(float(rest_T.mean())))
    odd_T = np.abs(mean_T[:FIRST_TRS] - np.median(rest_T)) > STEADY_MADS * spread
    return FIRST_TRS if odd_T.all() else int(np.argmin(odd_T))
