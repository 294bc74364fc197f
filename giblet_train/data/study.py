"""A study as the engine sees it: one stimulus and every subject's response on the scan's clock.

Array names carry their axes: T scan TRs, K frames in a TR, H W C rows, columns and colours of a frame, F features,
V voxels of the store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import Geometry
from giblet_train.data.readers.row_plan import Span
from giblet_train.data.rows import PartialRows, Rows


@dataclass(frozen=True)
class Study:
    """A store's content: not normalised, free of any split; the large arrays are read-only memory maps.

    TR t lasts from t·tr_s to (t+1)·tr_s of the scan; it begins at film second t·tr_s + stimulus_offset_s.
    """

    key: str
    """Key of the store."""
    tr_s: float
    """Seconds per TR."""
    scan_lengths_trs: tuple[int, ...]
    """TRs of each scan, in order; they sum to T."""
    border_trs: tuple[int, ...]
    """TRs at which an annotation begins or ends, ascending: a block that starts there cuts no annotation."""
    features: Mapping[str, NDArray[np.floating[Any]]]
    """Feature space -> (T, F) float16 or float32, free of any fitted parameter."""
    frames_TKHWC: NDArray[np.uint8]
    """uint8 frames, for display and for their principal components; empty, (T, 1, 0, 0, 3), without pictures."""
    text_labels: tuple[str, ...]
    """Annotation of each TR, "" if there is none."""
    bold: Mapping[str, Rows]
    """Subject ("sub-01") -> (T, V) float16 or float32, minus the subject's first TR."""
    reference: Mapping[str, NDArray[np.float32]]
    """Subject -> (V,) float32, that first TR: bold + reference is in the units of the file."""
    mask: NDArray[np.bool_]
    """The V voxels of the store in C order, in the shape of the geometry: those that are non-zero in every subject."""
    geometry: Geometry
    """Where the voxels are; a "voxel" may also be a vertex or a parcel."""
    codes: Mapping[str, int] = field(default_factory=dict)
    """Feature space -> codes in a book, if its features are shares of codes, (T, books · codes)."""
    confounds: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    """Subject -> (T, N) float32, to be regressed out; empty if there are none."""
    given_mask_V: NDArray[np.bool_] | None = None
    """Voxels of a mask file, among V; None if each split votes on its own mask."""
    parcel_V: NDArray[np.int32] | None = None
    """Atlas label of each voxel, 0 outside all parcels; None without an atlas."""
    parcel_names: Mapping[int, str] = field(default_factory=dict)
    """Label -> name."""
    stimulus_offset_s: float = 0.0
    """Film second at which the first TR begins."""
    block_names: tuple[str, ...] = ()
    """Name of each scan."""
    spans: tuple[Span, ...] = ()
    """Stretches of stimuli in order of rows; rows between them have no stimulus."""
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Subject -> (T,), True for the rows that it has; empty if all subjects have all rows."""
    shown: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Feature space -> (T,), True where the stimulus has it; no entry if it has it everywhere."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that was converted or cropped."""

    def shown_at(self, tr: int) -> tuple[str, float]:
        """Return the stimulus at the start of a TR and its second there; ("", NaN) for a TR without a stimulus."""
        for span in self.spans:
            if span.first <= tr < span.stop:
                return span.stimulus, span.start_s + (tr - span.first) * self.tr_s
        return ("", math.nan) if self.spans else ("film", tr * self.tr_s + self.stimulus_offset_s)

    @property
    def has_pictures(self) -> bool:
        """Return True if any stimulus has pictures."""
        return bool(self.frames_TKHWC.size)

    @property
    def is_partial(self) -> bool:
        """Return True if some subject lacks some rows."""
        return bool(self.present)

    @property
    def n_trs(self) -> int:
        """Return T, the TRs of all scans together."""
        return sum(self.scan_lengths_trs)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects' labels, in order."""
        return tuple(self.bold)

    def present_T(self, subject: str) -> NDArray[np.bool_]:
        """Return (T,): True for the rows that a subject has."""
        present_T = self.present.get(subject)
        return np.ones(self.n_trs, bool) if present_T is None else present_T

    def own_rows(self, subject: str) -> NDArray[np.floating[Any]]:
        """Return the responses of a subject in the rows that it has, (N, V)."""
        array = self.bold[subject]
        own: NDArray[np.floating[Any]] = array.stored_NV if isinstance(array, PartialRows) else array[:]
        return own

    def part(self, first: int, stop: int) -> Study:
        """Return one scan as a study: rows first to stop, with the subjects who have any of them."""
        rows = slice(first, stop)
        subjects = [s for s in self.bold if self.present_T(s)[rows].any()]
        bold = {s: self.bold[s] for s in subjects}
        return replace(
            self,
            scan_lengths_trs=(stop - first,),
            border_trs=tuple(b - first for b in self.border_trs if first < b < stop),
            features={m: x_TF[rows] for m, x_TF in self.features.items()},
            frames_TKHWC=self.frames_TKHWC[rows],
            text_labels=self.text_labels[rows],
            bold={s: x.part(first, stop) if isinstance(x, PartialRows) else x[rows] for s, x in bold.items()},
            confounds={s: x_TN[rows] for s, x_TN in self.confounds.items()},
            block_names=(),
            spans=tuple(
                Span(s.stimulus, s.first - first, s.n_trs, s.start_s) for s in self.spans if first <= s.first < stop
            ),
            present={s: self.present[s][rows] for s in subjects} if self.present else {},
            shown={m: shown_T[rows] for m, shown_T in self.shown.items()},
        )

    @property
    def n_voxels(self) -> int:
        """Return V, the voxels of the store, before a split's mask."""
        return int(np.count_nonzero(self.mask))
