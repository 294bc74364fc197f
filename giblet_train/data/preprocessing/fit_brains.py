"""Masks, scales and shared responses of the brains, fitted to training TRs.

T TRs, R training TRs, V voxels that the split's mask keeps, S subjects, C scans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.component_stats import bold_stats
from giblet_train.data.preprocessing.confounds import without_confounds
from giblet_train.data.preprocessing.detrend import Detrend, present_blocks, without_drift
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.preprocessing.standardize import BoldScale, fit_columns, scan_moments, vote_mask
from giblet_train.data.readers.bids import is_subject
from giblet_train.data.rows import Rows
from giblet_train.data.statistics.isc import IscResult, shared_response
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import ModalityFacts

AVERAGE = "average"
MIN_SUBJECT_TRS = 16
"""Training TRs without which a subject has no z-score."""


@dataclass(frozen=True)
class LazyZScoredBold(Mapping[str, NDArray[np.float32]]):
    """Subject -> (T, V) float32, computed from the memory map at each access."""

    study: Study
    bold: Mapping[str, Rows]
    """Subject -> (T, V) of the store, without drift and confounds if these are to be removed."""
    voxels_V: NDArray[np.intp]
    scales: Mapping[str, BoldScale | None]
    """Subject -> its z-score, or None to keep the units of the file (`data.normalize_fmri: false`)."""

    def __getitem__(self, subject: str) -> NDArray[np.float32]:
        scale = self.scales[subject]
        if scale is not None:
            scaled_TV = scale.apply(self.bold[subject], self.study.scan_lengths_trs, self.voxels_V)
        else:
            scaled_TV = self.bold[subject][:][:, self.voxels_V].astype(np.float32)
            scaled_TV += self.study.reference[subject][self.voxels_V]
        if self.study.is_partial:
            scaled_TV[~self.study.present_T(subject)] = 0.0
        return scaled_TV

    def __iter__(self) -> Iterator[str]:
        return iter(self.scales)

    def __len__(self) -> int:
        return len(self.scales)

    def raw(self) -> LazyZScoredBold:
        """Return the same responses in the units of the file."""
        return LazyZScoredBold(self.study, self.bold, self.voxels_V, dict.fromkeys(self.scales))


@dataclass(frozen=True)
class FittedBrains:
    """Responses of the training subjects and of the left-out one. See the same fields in `PreparedSplit`."""

    bold: Mapping[str, NDArray[np.float32]]
    left_out: Mapping[str, NDArray[np.float32]]
    voxels_V: NDArray[np.intp]
    parcels: Mapping[str, slice]
    shared: IscResult | None
    """Inter-subject correlation; None for one subject."""
    drift: Detrend
    facts: ModalityFacts
    pooled_scans: tuple[int, ...]
    """Scans with too few training TRs for a z-score of their own."""
    present: Mapping[str, NDArray[np.bool_]]
    """Head -> (T,), True for the rows that it has; empty if all heads have all rows."""
    notes: tuple[str, ...] = ()


def fit_brains(study: Study, split: Split, config: Config) -> FittedBrains:
    """Fit mask, drift, confounds and z-scores to the split's training TRs.

    Raises ConfigError if `model.n_voxels` or `split.leave_out_subject` do not fit the data, DataError if no voxel
    varies.
    """
    drift = Detrend(config.data.detrend if config.data.normalize_fmri else "none", study.tr_s)
    train = {s: split.train[study.present_T(s)[split.train]] for s in study.subjects}
    idle = [s for s in study.subjects if len(train[s]) < MIN_SUBJECT_TRS]
    subjects = [s for s in study.subjects if s not in idle]
    series = {s: _without_nuisance(study, s, split, train[s], drift) for s in subjects}
    moments = {s: scan_moments(series[s], train[s], study.scan_lengths_trs) for s in subjects}
    held_out = _held_out_subjects(study, config)
    training = [s for s in subjects if s not in held_out]
    if not training:
        raise DataError("No subject has enough training TRs in this split.", "Choose another split.fold.")
    voxels_V, parcels = _in_parcels(study, _voxels(study, config, [moments[s].sd_V() for s in training]))
    scales = {s: moments[s].scale() for s in subjects}
    z_scored = LazyZScoredBold(study, series, voxels_V, {s: scales[s] for s in training})
    left_out = LazyZScoredBold(study, series, voxels_V, {s: scales[s] for s in held_out if s in scales})
    present = {s: study.present_T(s) for s in training} if study.is_partial else {}
    bold = _targets(z_scored, split, config)
    averaged = config.data.mode == "cross_subject"
    return FittedBrains(
        bold=bold,
        left_out=left_out if config.data.normalize_fmri else left_out.raw(),
        voxels_V=voxels_V,
        parcels=parcels,
        shared=shared_response(z_scored, split.train, present) if _overlap(present, split, len(training)) else None,
        drift=drift,
        facts=_facts(study, train, training, voxels_V, bold, split),
        pooled_scans=_pooled_scans(study, {s: scales[s] for s in training}),
        present={AVERAGE: np.any(list(present.values()), axis=0)} if averaged and present else present,
        notes=tuple(f"{s} has {len(train[s])} training TRs in this split: it is left out." for s in idle),
    )


def _overlap(present: Mapping[str, NDArray[np.bool_]], split: Split, n_subjects: int) -> bool:
    """Return True if two subjects share at least MIN_SUBJECT_TRS training TRs."""
    if not present:
        return n_subjects > 1
    return int((np.sum(list(present.values()), axis=0)[split.train] > 1).sum()) >= MIN_SUBJECT_TRS


def _pooled_scans(study: Study, scales: Mapping[str, BoldScale]) -> tuple[int, ...]:
    """Return the scans that a subject has, but with too few training TRs for a z-score of its own."""
    starts = np.cumsum([0, *study.scan_lengths_trs])
    scans = {
        scan
        for subject, scale in scales.items()
        for scan in scale.pooled_scans
        if study.present_T(subject)[starts[scan] : starts[scan + 1]].any()
    }
    return tuple(sorted(scans))


def _without_nuisance(study: Study, subject: str, split: Split, train: NDArray[np.intp], drift: Detrend) -> Rows:
    """Remove drift and confounds.

    Confounds lose their drift too, or they would bring back the drift that was removed (Lindquist et al. 2019).
    """
    series = study.bold[subject]
    confounds = study.confounds.get(subject)
    blocks = present_blocks(split.blocks, study.present_T(subject)) if study.is_partial else split.blocks
    if drift.kind != "none":
        series = without_drift(series, blocks, drift)
        confounds = None if confounds is None else without_drift(confounds, blocks, drift)[:]
    if confounds is None:
        return series
    return without_confounds(series, confounds, train, study.scan_lengths_trs)


def _held_out_subjects(study: Study, config: Config) -> tuple[str, ...]:
    number = config.split.leave_out_subject
    if number is None:
        return ()
    held_out = tuple(s for s in study.subjects if is_subject(s.removeprefix("sub-"), number))
    if not held_out or len(study.subjects) < 2:
        raise ConfigError(
            f"split.leave_out_subject is {number}; the study has {', '.join(study.subjects)}.",
            "Name the number of one of several subjects, or set it to null.",
        )
    return held_out


def _voxels(study: Study, config: Config, sd_SV: Sequence[NDArray[np.float64]]) -> NDArray[np.intp]:
    """Return the indices of the voxels that a mask file, an atlas or the vote of the subjects keeps."""
    if study.given_mask_V is not None:
        mask_V = study.given_mask_V & (np.stack(sd_SV) > 0).any(axis=0)
    elif config.data.mask == "atlas" and study.parcel_V is not None:
        mask_V = (study.parcel_V > 0) & (np.stack(sd_SV) > 0).any(axis=0)
    elif isinstance(study.geometry, VolumeGrid):
        mask_V = vote_mask(sd_SV)
    else:
        # Grayordinates and parcels are brain by definition: the vote is against voxels outside it.
        mask_V = np.asarray((np.stack(sd_SV) > 0).any(axis=0))
    voxels_V = np.flatnonzero(mask_V)
    if not len(voxels_V):
        raise DataError(
            "No voxel varies in at least half of the subjects over the training TRs.",
            "Look at the files with `python -m giblet_train data check`.",
        )
    if config.model.n_voxels not in (None, len(voxels_V)):
        raise ConfigError(
            f"model.n_voxels is {config.model.n_voxels}, but the mask of this split keeps {len(voxels_V)} voxels.",
            "Set model.n_voxels: null; the number follows from the data.",
        )
    return voxels_V


def _in_parcels(study: Study, voxels_V: NDArray[np.intp]) -> tuple[NDArray[np.intp], dict[str, slice]]:
    """Order voxels by parcel, so that a parcel is a slice; return the order and the slices by name."""
    if study.parcel_V is None:
        return voxels_V, {}
    label_V = study.parcel_V[voxels_V]
    rank_V = np.where(label_V > 0, label_V, np.iinfo(label_V.dtype).max)
    order = np.argsort(rank_V, kind="stable")
    labels, starts, counts = (x.tolist() for x in np.unique(rank_V[order], return_index=True, return_counts=True))
    slices = {n: slice(start, start + count) for n, start, count in zip(labels, starts, counts, strict=True)}
    names = study.parcel_names
    return voxels_V[order], {names[n]: where for n, where in slices.items() if n in names}


def _targets(z_scored: LazyZScoredBold, split: Split, config: Config) -> Mapping[str, NDArray[np.float32]]:
    """Return what the heads predict: every subject, or their average in cross_subject mode."""
    bold = z_scored if config.data.normalize_fmri else z_scored.raw()
    if config.data.mode == "per_subject":
        return bold
    average_TV = np.zeros((bold.study.n_trs, len(bold.voxels_V)), np.float32)
    n_T1 = np.sum([bold.study.present_T(s) for s in bold], axis=0).astype(np.float32)[:, None]
    for subject in bold:
        average_TV += bold[subject] / np.maximum(n_T1, np.float32(1.0))
    if config.data.normalize_fmri:
        average_TV = fit_columns(average_TV, split.train).apply(average_TV)
    return {AVERAGE: average_TV}


def _facts(
    study: Study,
    train: Mapping[str, NDArray[np.intp]],
    training: Sequence[str],
    voxels_V: NDArray[np.intp],
    bold: Mapping[str, NDArray[np.float32]],
    split: Split,
) -> ModalityFacts:
    """Describe the scale of the responses before and after normalisation."""
    moments = [scan_moments(study.bold[s], train[s], study.scan_lengths_trs) for s in training]
    stats = _target_stats(bold, {s: train.get(s, split.train) for s in bold})
    return bold_stats(moments, [study.reference[s] for s in training], voxels_V, stats)


def _target_stats(bold: Mapping[str, NDArray[np.float32]], train: Mapping[str, NDArray[np.intp]]) -> dict[str, float]:
    """Return mean, SD and variance of the fMRI targets over training TRs, and the number of constant ones."""
    means, squares, variances, constant = [], [], [], 0
    for subject in bold:
        rows_RV = bold[subject][train[subject]]
        mean_V, variance_V = rows_RV.mean(axis=0, dtype=np.float64), rows_RV.var(axis=0, dtype=np.float64)
        means.append(float(mean_V.mean()))
        squares.append(float((variance_V + mean_V**2).mean()))
        variances.append(float(variance_V.mean()))
        constant += int((variance_V == 0).sum())
    mean, square = float(np.mean(means)), float(np.mean(squares))
    return {
        "mean": mean,
        "sd": float(np.sqrt(max(0.0, square - mean**2))),
        "variance": float(np.mean(variances)),
        "constant": float(constant),
    }
