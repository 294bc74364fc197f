"""Separate voxels of the brain from air and bone around it by their signal. V voxels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BRIGHT_QUANTILE = 0.95
DARK_LEVEL = 0.15
"""Share of the signal of bright voxels below which a voxel is dark: outside the head, or without signal."""

DARK_SHARE = 0.25
"""Share of dark voxels from which a scan is not masked; a rim of bone and fluid around the brain makes fewer."""


def dark_voxels(signal_V: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return (V,): voxels far darker than bright ones; none where the mean was removed, as from z-scores.

    signal_V: a volume of the scan, in its own units.
    """
    lowest, bright = np.nanquantile(signal_V, (1.0 - BRIGHT_QUANTILE, BRIGHT_QUANTILE))
    if lowest < -DARK_LEVEL * bright or bright <= 0:
        return np.zeros(signal_V.shape, bool)
    return np.asarray(~(signal_V >= DARK_LEVEL * bright))
