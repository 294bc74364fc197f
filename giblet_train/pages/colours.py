"""Colours that people with colour-blindness can distinguish, on light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RGB = tuple[int, int, int]

SEQUENTIAL: tuple[RGB, ...] = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Viridis at 0, .25, .5, .75, 1 (Smith and van der Walt 2015): lightness rises evenly."""
WARM: tuple[RGB, ...] = ((122, 4, 3), (208, 47, 5), (244, 119, 25), (250, 186, 57), (255, 245, 170))
"""Dark red to light yellow: values above a threshold over a grey brain."""
COLD: tuple[RGB, ...] = ((8, 29, 120), (34, 94, 190), (65, 160, 220), (140, 210, 240), (220, 245, 255))
"""Dark to light blue: values below the negative threshold."""
CATEGORIES: tuple[RGB, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (213, 94, 0), (0, 114, 178), (240, 228, 66),
)  # fmt: skip
"""Okabe and Ito (2008)."""


def ramp(values: NDArray[np.floating[Any]], stops: Sequence[RGB], low: float, high: float) -> NDArray[np.uint8]:
    """Return the colours (..., 3) of values between `low` (first stop) and `high` (last stop); others are clipped."""
    place = np.clip((np.asarray(values, float) - low) / max(high - low, 1e-12), 0.0, 1.0) * (len(stops) - 1)
    table = np.array(stops, float)
    below = np.minimum(place.astype(int), len(stops) - 2)
    part = (place - below)[..., None]
    return np.asarray(np.rint((1.0 - part) * table[below] + part * table[below + 1]), np.uint8)


def css(colour: Sequence[int]) -> str:
    """Return #rrggbb."""
    return "#" + "".join(f"{int(channel):02x}" for channel in colour[:3])


def ink_on(colour: Sequence[int]) -> str:
    """Return black or white, whichever contrasts more with a background (WCAG relative luminance)."""
    linear = [(c / 255) / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
