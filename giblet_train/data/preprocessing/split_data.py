"""One split of a study, standardised with statistics of its training TRs only.

T TRs, V voxels that the split's mask keeps, F features of a modality, B books of Q codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.detrend import Detrend
from giblet_train.data.preprocessing.fit_brains import FittedBrains, fit_brains
from giblet_train.data.preprocessing.fit_features import fit_features
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.preprocessing.standardize import ColumnScale
from giblet_train.data.stimulus.frame_pca import FramePca
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.records import ModalityFacts


@dataclass(frozen=True)
class PreparedSplit:
    """Training data of the engine: every parameter is fitted to `split.train`, every array has all T rows."""

    study: Study
    split: Split
    inputs: Mapping[str, NDArray[np.float32]]
    """Modality -> (T, F), mean 0 and sd 1 over training TRs; HRF-convolved if `data.apply_hrf`."""
    targets: Mapping[str, NDArray[np.float32]]
    """Modality -> (T, F) to reconstruct: the same features, never convolved; of codes, the shares themselves."""
    target_weights: Mapping[str, NDArray[np.float32]]
    """Modality -> (F,), mean 1: weights of squared reconstruction errors, so that the training mean scores exactly 1.

    Codes weigh by their variance in a mean over them.
    """
    bold: Mapping[str, NDArray[np.float32]]
    """Subject -> (T, V): without each block's `drift`, 0 in gaps, z-scored per voxel and scan over training TRs.

    Each access computes the array from the memory map, so memory does not grow with subjects: do not keep it.
    """
    voxels_V: NDArray[np.intp]
    """Kept voxels as indices into the study's V: parcel by parcel if there is an atlas, otherwise in C order."""
    mask: NDArray[np.bool_]
    """Kept voxels in the shape of the geometry."""
    isc_V: NDArray[np.float32]
    """Mean correlation of all pairs of subjects over training TRs, NaN for one subject.

    It is the rho of the noise ceiling sqrt(rho).
    """
    responsive_V: NDArray[np.bool_]
    """True if isc_V is above the 99th percentile of its null by circular shifts of the subjects."""
    null_V: NDArray[np.bool_]
    """True if isc_V is below the 75th percentile of that null: no shared signal is expected."""
    frame_pca: FramePca
    """Turns the columns `pca_columns` of predicted video features back into frames; empty without pictures."""
    pca_columns: slice
    """Columns of the video features that are components of frames; empty if the video is codes."""
    feature_mean: Mapping[str, NDArray[np.float32]]
    """Modality -> (F,) that was subtracted to make `targets`; no entry for codes."""
    feature_sd: Mapping[str, NDArray[np.float32]]
    """Modality -> (F,) that `targets` were divided by; no entry for codes."""
    facts: Mapping[str, ModalityFacts]
    """Component ("fmri", "video", ...) -> its scale before and after normalisation."""
    drift: Detrend = field(default_factory=Detrend)
    """Drift that was removed from each block."""
    left_out: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """The subject of `split.leave_out_subject`, in the form of `bold`; only its own z-score is fitted."""
    parcels: Mapping[str, slice] = field(default_factory=dict)
    """Parcel -> its voxels in V; voxels outside all parcels come last."""
    unigram: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Modality of codes -> (B, Q): training frequency of each code of each book."""
    input_scales: Mapping[str, ColumnScale] = field(default_factory=dict)
    """Modality -> the scale that made `inputs` from features, convolved ones if `data.apply_hrf`."""
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Subject -> (T,), True for the rows that it has; empty if all subjects have all rows. `bold` is 0 elsewhere."""
    notes: tuple[str, ...] = ()
    """One sentence for each thing that the reader of a run should know."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the labels of the heads: every subject, or one "average" in cross_subject mode."""
        return tuple(self.bold)

    def n_present_T(self) -> NDArray[np.intp]:
        """Return (T,): the number of heads that have each row."""
        if not self.present:
            return np.full(self.split.n_trs, len(self.bold), np.intp)
        return np.asarray(np.sum(list(self.present.values()), axis=0, dtype=np.intp))

    @property
    def has_shared_rows(self) -> bool:
        """Return True if any training TR was seen by two heads."""
        return bool((self.n_present_T()[self.split.train] > 1).any())

    def rows_of(self, subject: str, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of the rows that a subject has."""
        return rows[self.present[subject][rows]] if self.present else rows

    @property
    def n_voxels(self) -> int:
        """Return V, the voxels that the split's mask keeps."""
        return len(self.voxels_V)

    def in_grid_order(self, values_V: NDArray[Any]) -> NDArray[Any]:
        """Return (..., V) in C order of `mask`, as `Geometry.write_map` and `Geometry.write_series` take it."""
        return values_V[..., np.argsort(self.voxels_V)]

    def from_grid(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (V,): the values of a map in the shape of the geometry at the kept voxels, in their order."""
        return values.ravel()[np.flatnonzero(self.study.mask)[self.voxels_V]]


def prepare_split(study: Study, split: Split, config: Config) -> PreparedSplit:
    """Fit every scale, mask and basis to the split's training TRs and apply them to the study.

    Raises ConfigError if the configuration names a number of voxels or a subject that the data do not have, DataError
    if no voxel is left.
    """
    features, brains = fit_features(study, split, config), fit_brains(study, split, config)
    n_voxels, n_shared = len(brains.voxels_V), brains.shared
    return PreparedSplit(
        study=study,
        split=split,
        inputs=features.inputs,
        targets=features.targets,
        target_weights=features.target_weights,
        bold=brains.bold,
        voxels_V=brains.voxels_V,
        mask=_mask_of(study, brains.voxels_V),
        isc_V=n_shared.isc_V if n_shared else np.full(n_voxels, np.nan, np.float32),
        responsive_V=n_shared.above_chance() if n_shared else np.ones(n_voxels, bool),
        null_V=n_shared.at_chance() if n_shared else np.zeros(n_voxels, bool),
        frame_pca=features.frame_pca,
        pca_columns=features.pca_columns,
        feature_mean=features.feature_mean,
        feature_sd=features.feature_sd,
        facts={"fmri": brains.facts, **features.facts},
        drift=brains.drift,
        left_out=brains.left_out,
        parcels=brains.parcels,
        unigram=features.unigram,
        input_scales=features.input_scales,
        present=brains.present,
        notes=(*_notes(study, brains, config), *features.notes, *brains.notes),
    )


def _mask_of(study: Study, voxels_V: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.zeros(study.mask.shape, bool)
    mask.ravel()[np.flatnonzero(study.mask)[voxels_V]] = True
    return mask


def _notes(study: Study, brains: FittedBrains, config: Config) -> tuple[str, ...]:
    notes = list(study.notes)
    if brains.pooled_scans:
        names = study.block_names or tuple(f"scan {n}" for n in range(1, len(study.scan_lengths_trs) + 1))
        pooled = ", ".join(names[scan] for scan in brains.pooled_scans)
        notes.append(f"Too few training TRs for a z-score of its own, so that of all scans is used: {pooled}.")
    if not config.data.normalize_fmri:
        notes.append(
            "data.normalize_fmri is false: the fMRI keeps the scanner's units, which differ between subjects; "
            "the subject with the largest units will dominate the loss."
        )
    if not isinstance(study.geometry, VolumeGrid) and config.model.start == "ridge" and config.model.start_near:
        notes.append(f"{study.geometry.description} have no known neighbours; model.start_near is not used.")
    if brains.shared is None and len(study.subjects) == 1:
        notes.append("One subject has no inter-subject correlation: every voxel counts as responsive.")
    elif brains.shared is None:
        notes.append(
            "No two subjects share training TRs, so there is no inter-subject correlation: every voxel counts."
        )
    return tuple(notes)
