"""A study as the engine sees it: one stimulus and every subject's response on the scan's clock.

Array names carry their axes: T scan TRs, K frames in a TR, H W C rows, columns and colours of a frame, F features,
V voxels of the store, X Y Z the grid of the volumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Study:
    """What a store holds, un-normalised and free of any split; the large arrays are read-only memory maps.

    TR t lasts from t·tr_s to (t+1)·tr_s of the scan, at which the film stands at t·tr_s + stimulus_offset_s.

    key: the store's key. scan_lengths_trs: TRs of each scan, one after another; they sum to T.
    border_trs: TRs at which an annotation begins, ascending: where a block may start without cutting one in two.
    features: "video", "audio", "text" -> (T, F) float16 or float32, free of any fitted parameter.
    codes: modality -> codes in a book, where the features are shares of codes, (T, books · codes).
    frames_TKHWC: uint8, for pictures and for the principal components of frames.
    text_labels: the annotations active in each TR, "" where there is none.
    bold: subject ("sub-01") -> (T, V) float16 or float32, minus the subject's first TR.
    reference: subject -> (V,) float32, that first TR: bold + reference is the file's own unit.
    mask_XYZ: the V voxels of the store in C order, those that are not zero in any subject. affine: (4, 4), mm.
    space_code: NIfTI's number of the space that the affine leads to.
    confounds: subject -> (T, N) float32, what is to be regressed out; empty where nothing is.
    given_mask_V: the voxels of a mask file, among V; None where each split votes on its own mask.
    parcel_V: the atlas label of each voxel, 0 in no parcel; None without an atlas. parcel_names: label -> name.
    notes: one sentence for each thing that was converted or cropped on the way in.
    """

    key: str
    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    border_trs: tuple[int, ...]
    features: Mapping[str, NDArray[np.floating[Any]]]
    frames_TKHWC: NDArray[np.uint8]
    text_labels: tuple[str, ...]
    bold: Mapping[str, NDArray[np.floating[Any]]]
    reference: Mapping[str, NDArray[np.float32]]
    mask_XYZ: NDArray[np.bool_]
    affine: NDArray[np.float64]
    codes: Mapping[str, int] = field(default_factory=dict)
    confounds: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    given_mask_V: NDArray[np.bool_] | None = None
    parcel_V: NDArray[np.int32] | None = None
    parcel_names: Mapping[int, str] = field(default_factory=dict)
    stimulus_offset_s: float = 0.0
    space_code: int = 2
    notes: tuple[str, ...] = ()

    @property
    def n_trs(self) -> int:
        """T: TRs of all scans together."""
        return sum(self.scan_lengths_trs)

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subjects' labels, in order."""
        return tuple(self.bold)

    @property
    def n_voxels(self) -> int:
        """V: voxels of the store, before a split's mask."""
        return int(np.count_nonzero(self.mask_XYZ))
