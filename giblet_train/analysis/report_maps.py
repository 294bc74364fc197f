"""Maps of a run's report: how well voxels are predicted, and could be; what drives them; how long they remember.

V positions of the study: voxels, or vertices of fsaverage5; X Y Z the study's grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.cortex import Cortex
from giblet_train.analysis.held_out_maps import FDR, HeldOutMaps
from giblet_train.components.voxel_posterior import LEAST_SIGNAL, VoxelPosterior
from giblet_train.data.geometry import Noun, VolumeGrid
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.pages.brain import BrainCanvas, Overlay, category_key, colour_bar
from giblet_train.pages.colours import SEQUENTIAL
from giblet_train.pages.page import figure, paragraph
from giblet_train.pages.scores import decimal

SMALLEST_R = 1e-3
SOURCE = "maps r, p and ceiling next to this page; giblet evaluate RUN"


@dataclass(frozen=True)
class MapSection:
    """The section of a study's maps."""

    data: PreparedSplit
    maps: HeldOutMaps
    posterior: VoxelPosterior | None
    """Posterior of the ridge initialisation at each position; None without one."""

    def html(self) -> str:
        """Return the section; a sentence if the brains of the study cannot be drawn."""
        if self._canvas is None and self._cortex is None:
            r_V = self.maps.group_r_V
            return paragraph(
                f"The brains of this study are {self.data.study.geometry.description}, which this page does not draw. "
                "The maps next to it are in the format of the study. Held-out r, mean over subjects: median "
                f"{decimal(float(np.median(r_V)))}, 95th percentile {decimal(float(np.quantile(r_V, 0.95)))}; "
                f"{self._n_significant} of {self.data.n_voxels} are significant at a false-discovery rate of {FDR:g}."
            )
        return self._where() + self._prediction() + self._ceiling() + self._spaces() + self._memory()

    @cached_property
    def _canvas(self) -> BrainCanvas | None:
        """Return the brain of a study of volumes, with the mean image of its subjects."""
        study = self.data.study
        if not isinstance(study.geometry, VolumeGrid):
            return None
        anatomy_XYZ = np.zeros(study.mask.shape)
        for subject in study.subjects:
            anatomy_XYZ[study.mask] += study.reference[subject] + study.own_rows(subject).mean(0, dtype=np.float32)
        return BrainCanvas(self.data.mask, study.geometry.affine, anatomy_XYZ)

    @cached_property
    def _cortex(self) -> Cortex | None:
        return Cortex.of(self.data.study.geometry, self._canvas)

    @property
    def _noun(self) -> Noun:
        return self.data.study.geometry.noun

    @property
    def _n_significant(self) -> int:
        return int(self.maps.significant().sum())

    @cached_property
    def _threshold(self) -> float:
        """Return half of the smallest coloured r: the edge of a coloured position. Without one, the largest r."""
        r_V = self._coloured_r_V
        return float(r_V[r_V > 0].min() / 2 if r_V.any() else max(self.maps.group_r_V.max(), SMALLEST_R))

    @property
    def _coloured_r_V(self) -> NDArray[np.floating[Any]]:
        """Return r where it is significant and positive, 0 elsewhere (V,)."""
        r_V = self.maps.group_r_V
        return np.where(self.maps.significant() & (r_V >= SMALLEST_R), r_V, 0.0)

    @cached_property
    def _high(self) -> float:
        """Return the r of the brightest colour, of r and ceiling alike."""
        largest_V = np.maximum(self.maps.group_r_V, np.nan_to_num(self.maps.ceiling_V))
        return max(0.1, float(np.quantile(largest_V, 0.995)), self._threshold * 1.2)

    @cached_property
    def _r(self) -> Overlay:
        """Return significant r. Significance is that of prewhitened series, so it is no threshold of r."""
        return Overlay(self._placed(self._coloured_r_V), self._threshold, self._high)

    def _peak_mm(self, canvas: BrainCanvas) -> NDArray[np.float64]:
        """Return where r is largest, significant or not."""
        return canvas.peak_mm(Overlay(self._placed(np.maximum(self.maps.group_r_V, 0.0)), 0.0, self._high))

    def _placed(self, values_V: NDArray[Any]) -> NDArray[Any]:
        """Return values (V,) in the shape of the study's space, 0 outside the mask."""
        volume = np.zeros(self.data.mask.shape, values_V.dtype)
        volume[self.data.mask] = self.data.in_grid_order(values_V)
        return volume

    def _where(self) -> str:
        sentences = []
        if self._canvas is not None:
            peak = ", ".join(f"{x:.0f}" for x in self._peak_mm(self._canvas))
            sentences.append(
                "Coordinates are millimetres of the study's space; L is left, R right, A anterior, P posterior. "
                f"Slices pass through the voxel that is predicted best, at ({peak}) mm."
            )
        if self._cortex is not None:
            sentences.append("The cortex is the inflated fsaverage5, whose sulci are dark.")
        return paragraph(" ".join(sentences), "soft")

    def _prediction(self) -> str:
        legend = (
            f"Coloured: significant at a false-discovery rate of {FDR:g} "
            f"({self._n_significant} of {self.data.n_voxels} {self._noun.many})."
            if self._n_significant
            else f"No {self._noun.one} is significant, so none is coloured."
        )
        caption = f"Held-out r, mean over subjects. {legend}"
        return self._figure(self._r, f"How well each {self._noun.one} is predicted", "held-out r", caption, SOURCE)

    def _ceiling(self) -> str:
        ceiling_V = np.nan_to_num(self.maps.ceiling_V)
        if not ceiling_V.any():
            return ""
        caption = (
            "Noise ceiling: root of the inter-subject correlation over training TRs, on the same colours. No model "
            "that predicts what subjects share can exceed it by more than chance; the test block may be easier or "
            "harder than training."
        )
        overlay = Overlay(self._placed(ceiling_V), self._threshold, self._high)
        return self._figure(overlay, "How well it could be predicted", "noise ceiling", caption, SOURCE)

    def _spaces(self) -> str:
        posterior = self.posterior
        if posterior is None or not posterior.driven_V.any():
            return ""
        preferred_V, names = posterior.preferred_V, posterior.preferred_names
        strength_V = np.where(posterior.driven_V, posterior.explained_V, 0.0)
        weakest = float(posterior.explained_V[posterior.driven_V].min()) / 2
        overlay = Overlay(self._placed(strength_V), weakest, 1.0, self._placed(preferred_V))
        counts = {name: int((preferred_V == n).sum()) for n, name in enumerate(names)}
        heading = f"What drives each {self._noun.one}"
        caption = (
            "Feature space with more than half of the variance that the film explains in training; mixed: none has "
            f"half. Coloured where a response is {LEAST_SIGNAL:.0%} probable."
        )
        pictures = self._pictures(overlay, heading, category_key(names, counts, self._noun.many))
        return figure(pictures, caption, "maps space and share_* next to this page", heading)

    def _memory(self) -> str:
        posterior = self.posterior
        if posterior is None or not posterior.driven_V.any():
            return ""
        memory_V = np.where(posterior.driven_V, posterior.memory_s_V, 0.0)
        overlay = Overlay(self._placed(memory_V), 1.0, max(2.0, float(memory_V.max())), positive=SEQUENTIAL)
        caption = (
            f"Mean time constant of each {self._noun.one}'s memory, in seconds: how long a response outlasts its cause "
            "beyond the haemodynamic response."
        )
        source = "map memory_s next to this page"
        return self._figure(overlay, "How long it remembers", "memory, s", caption, source)

    def _figure(self, overlay: Overlay, heading: str, label: str, caption: str, source: str) -> str:
        pictures = self._pictures(overlay, heading, colour_bar(overlay, label))
        return figure(pictures, escape(caption), source, heading)

    def _pictures(self, overlay: Overlay, name: str, key: str) -> str:
        """Return all views of a map. key: the meaning of its colours."""
        cortex = "" if self._cortex is None else self._cortex.draw(overlay, name)
        if self._canvas is None:
            return cortex + key
        centre_mm = self._peak_mm(self._canvas)
        return cortex + self._canvas.glass(overlay, name) + self._canvas.slices(overlay, name, centre_mm, legend=key)
