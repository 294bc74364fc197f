"""A map as a picture for a notebook or a file. V positions of a model."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.cortex import Cortex
from giblet_train.data.geometry import Geometry, VolumeGrid
from giblet_train.pages.brain import BrainCanvas, Overlay, colour_bar
from giblet_train.pages.page import figure, html_page, write_page
from giblet_train.portable.arguments import as_path
from giblet_train.schema.errors import DataError

HEIGHT_PIXELS = 720


@dataclass(frozen=True)
class MapPicture:
    """A map on the brain; a notebook shows it."""

    page: str
    """A page that needs no other file."""

    def save(self, path: str | Path) -> None:
        """Write the picture as an HTML page. Raises DataError where it cannot be written."""
        write_page(self.page, as_path(path, "The picture"), "path")

    def _repr_html_(self) -> str:
        # A frame, because the page's style is not meant for the notebook around it.
        return f'<iframe srcdoc="{escape(self.page, quote=True)}" width="100%" height="{HEIGHT_PIXELS}"></iframe>'


def map_picture(
    space: Geometry, mask: NDArray[np.bool_], volume: NDArray[Any], label: str, threshold: float
) -> MapPicture:
    """Draw a map: the cortex where it can be placed, a glass brain, and slices through the largest value.

    Args:
        space: where the values are.
        mask: the V positions in the shape of the space.
        volume: values in the shape of the space.
        label: what the values are, for the colour bar.
        threshold: smaller absolute values are not coloured.

    Raises DataError for a space that cannot be drawn.
    """
    canvas = BrainCanvas(mask, space.affine) if isinstance(space, VolumeGrid) else None
    cortex = Cortex.of(space, canvas)
    if canvas is None and cortex is None:
        raise DataError(
            f"{space.description} cannot be drawn.",
            "Write the map with save_map. Vertices of fsaverage5 are drawn where nilearn is installed.",
        )
    strength_V = np.abs(np.nan_to_num(volume[mask]))
    high = max(float(np.quantile(strength_V, 0.995)), threshold * 1.2, 1e-6)
    overlay = Overlay(np.nan_to_num(volume), max(threshold, 1e-9 * high), high)
    bar = colour_bar(overlay, label)
    pictures = "" if cortex is None else cortex.draw(overlay, label)
    if canvas is None:
        pictures += bar
    else:
        pictures += canvas.glass(overlay, label) + canvas.slices(overlay, label, canvas.peak_mm(overlay), legend=bar)
    return MapPicture(html_page(label, [("Map", figure(pictures, ""))]))
