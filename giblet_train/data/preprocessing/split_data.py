"""One split of a study, standardised with what its training TRs alone say.

T TRs, R training TRs, V voxels that the split's mask keeps, F features of a modality, P numbers of a small frame,
S subjects, C scans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.preprocessing.component_stats import bold_stats, code_stats, feature_stats
from giblet_train.data.preprocessing.confounds import DeconfoundedBold, Floats, without_confounds
from giblet_train.data.preprocessing.detrend import Detrend, DetrendedBold, without_drift
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.preprocessing.standardize import BoldScale, ColumnScale, fit_columns, scan_moments, vote_mask
from giblet_train.data.readers.study_files import label
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.isc import shared_response
from giblet_train.data.stimulus.code_frequencies import unigram
from giblet_train.data.stimulus.frame_pca import FramePca, fit_frame_pca
from giblet_train.data.study import Study
from giblet_train.schema.config import MODALITIES, Config
from giblet_train.schema.errors import ConfigError, DataError
from giblet_train.schema.records import ModalityFacts

AVERAGE = "average"
PCA_WIDTH = {"tiny": 64, "lab": 512, "large": 1024}


@dataclass(frozen=True)
class PreparedSplit:
    """What the engine trains on. All parameters come from `split.train`; rows of every array are all T TRs.

    inputs: modality -> (T, F) float32, mean 0 and sd 1 over training TRs; HRF-convolved where `data.apply_hrf` says so.
    targets: modality -> (T, F) float32, the same features never convolved: what is reconstructed. Of codes, the shares
        themselves.
    target_weights: modality -> (F,) float32 with mean 1, by which a reconstruction's squared errors are weighed; with
        them the mean of the training TRs still scores exactly 1. Codes weigh in a mean over them as their variance.
    bold: subject -> (T, V) float32, without each block's `drift` and 0 in its gaps, then z-scored per voxel and scan
        over training TRs. Each access computes the array anew from the memory map, so memory does not grow with
        subjects; keep it only while it is needed.
    left_out: the subject of `split.leave_out_subject`, as bold: only its z-score is learnt, for itself.
    voxels_V: the kept voxels as indices into the study's V: parcel by parcel where there is an atlas, each in C order.
    mask_XYZ: the same on the grid. parcels: name -> where its voxels lie in V; voxels of no parcel come last.
    isc_V: mean correlation of all pairs of subjects over training TRs, rho of the noise ceiling sqrt(rho); NaN for
        one subject.
    responsive_V: isc_V is above the 99th percentile of what circular shifts of the subjects give by chance.
    null_V: isc_V is below the 75th percentile of that null: voxels in which no shared signal is expected.
    frame_pca: with the columns `pca_columns` of the video features, frames come back from predictions; codes of the
        video have none.
    feature_mean, feature_sd: modality -> (F,), the parameters behind `targets`; none of codes.
    unigram: modality that is codes -> (B, Q), how often each code of each book occurs in training.
    facts: component ("fmri", "video", ...) -> its scale before and after.
    """

    study: Study
    split: Split
    inputs: Mapping[str, NDArray[np.float32]]
    targets: Mapping[str, NDArray[np.float32]]
    target_weights: Mapping[str, NDArray[np.float32]]
    bold: Mapping[str, NDArray[np.float32]]
    voxels_V: NDArray[np.intp]
    mask_XYZ: NDArray[np.bool_]
    isc_V: NDArray[np.float32]
    responsive_V: NDArray[np.bool_]
    null_V: NDArray[np.bool_]
    frame_pca: FramePca
    pca_columns: slice
    feature_mean: Mapping[str, NDArray[np.float32]]
    feature_sd: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, ModalityFacts]
    drift: Detrend = field(default_factory=Detrend)
    left_out: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    parcels: Mapping[str, slice] = field(default_factory=dict)
    unigram: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def subjects(self) -> tuple[str, ...]:
        """Labels of the heads: every subject, or one "average" in cross_subject mode."""
        return tuple(self.bold)

    @property
    def n_voxels(self) -> int:
        """V: voxels that the split's mask keeps."""
        return len(self.voxels_V)

    def in_grid_order(self, values_V: NDArray[Any]) -> NDArray[Any]:
        """(..., V) in C order of the grid, as `write_map` and `write_bold` take it."""
        return values_V[..., np.argsort(self.voxels_V)]

    def from_grid(self, values_XYZ: NDArray[Any]) -> NDArray[Any]:
        """(V,): the values of a volume on the study's grid at the kept voxels, in their order."""
        return values_XYZ.ravel()[np.flatnonzero(self.study.mask_XYZ)[self.voxels_V]]


@dataclass(frozen=True)
class LazyZScoredBold(Mapping[str, NDArray[np.float32]]):
    """Subject -> (T, V) float32, computed anew from the memory map at each access.

    bold: subject -> (T, V) of the store, without its drift and its confounds where they are to be taken out.
    scales: subject -> its z-score, or None to give the file's own units (`data.normalize_fmri: false`).
    """

    study: Study
    bold: Mapping[str, Floats | DeconfoundedBold | DetrendedBold]
    voxels_V: NDArray[np.intp]
    scales: Mapping[str, BoldScale | None]

    def __getitem__(self, subject: str) -> NDArray[np.float32]:
        scale = self.scales[subject]
        if scale is not None:
            return scale.apply(self.bold[subject], self.study.scan_lengths_trs, self.voxels_V)
        raw_TV = self.bold[subject][:][:, self.voxels_V].astype(np.float32)
        raw_TV += self.study.reference[subject][self.voxels_V]
        return raw_TV

    def __iter__(self) -> Iterator[str]:
        return iter(self.scales)

    def __len__(self) -> int:
        return len(self.scales)

    def raw(self) -> LazyZScoredBold:
        """The same in the file's own units."""
        return LazyZScoredBold(self.study, self.bold, self.voxels_V, dict.fromkeys(self.scales))


def prepare_split(study: Study, split: Split, config: Config) -> PreparedSplit:
    """Fit every scale, mask and basis on the split's training TRs, and give the study through them.

    Raises ConfigError where the configuration names a number of voxels that the data do not have, DataError where no
    voxel is left.
    """
    drift = Detrend(config.data.detrend if config.data.normalize_fmri else "none", study.tr_s)
    stored = {s: _without_nuisance(study, s, split, drift) for s in study.subjects}
    moments = {s: scan_moments(stored[s], split.train, study.scan_lengths_trs) for s in study.subjects}
    left_out = _held_out_subjects(study, config)
    learnt = [s for s in study.subjects if s not in left_out]
    voxels, parcels = _in_parcels(study, _voxels(study, config, [moments[s].sd_V() for s in learnt]))
    scales = {s: m.scale() for s, m in moments.items()}
    each = LazyZScoredBold(study, stored, voxels, {s: scales[s] for s in learnt})
    shared = shared_response(each, split.train) if len(each) > 1 else None
    bold = _targets(each, split, config)
    apart = LazyZScoredBold(study, stored, voxels, {s: scales[s] for s in left_out})
    frame_pca = fit_frame_pca(study.frames_TKHWC, split.train, PCA_WIDTH[config.model.preset])
    brought = {m: np.array(study.features[m], np.float32) for m in MODALITIES}
    raw = brought | {"video": np.concatenate([brought["video"], frame_pca.scores(study.frames_TKHWC)], axis=1)}
    scale = {m: fit_columns(raw[m], split.train) for m in MODALITIES}
    scaled = {m: scale[m].apply(raw[m]) for m in MODALITIES}
    unigrams = {m: unigram(brought[m][split.train], n_codes, m) for m, n_codes in study.codes.items()}
    targets = scaled | {m: brought[m] for m in unigrams}
    pca_columns = slice(0) if "video" in unigrams else slice(brought["video"].shape[1], raw["video"].shape[1])
    weights = {m: _weights(scale[m], frame_pca.variance_F if m == "video" else None) for m in raw} | {
        m: _code_weights(brought[m][split.train]) for m in unigrams
    }
    facts = {
        m: code_stats(brought[m][split.train], unigrams[m])
        if m in unigrams
        else feature_stats(raw[m][split.train], targets[m][split.train], weights[m])
        for m in MODALITIES
    }
    fmri = bold_stats(
        [scan_moments(study.bold[s], split.train, study.scan_lengths_trs) for s in learnt],
        [study.reference[s] for s in learnt],
        voxels,
        _target_stats(bold, split.train),
    )
    return PreparedSplit(
        study=study,
        split=split,
        inputs=_inputs(raw, scaled, study, split, config),
        targets=targets,
        target_weights=weights,
        bold=bold,
        voxels_V=voxels,
        mask_XYZ=_mask_on_grid(study, voxels),
        isc_V=shared.isc_V if shared else np.full(len(voxels), np.nan, np.float32),
        responsive_V=shared.above_chance() if shared else np.ones(len(voxels), bool),
        null_V=shared.at_chance() if shared else np.zeros(len(voxels), bool),
        frame_pca=frame_pca,
        pca_columns=pca_columns,
        feature_mean={m: scale[m].mean_F for m in MODALITIES if m not in unigrams},
        feature_sd={m: scale[m].sd_F for m in MODALITIES if m not in unigrams},
        unigram=unigrams,
        facts={"fmri": fmri, **facts},
        drift=drift,
        left_out=apart if config.data.normalize_fmri else apart.raw(),
        parcels=parcels,
        notes=_notes(study, {s: scales[s] for s in learnt}, config),
    )


def _without_nuisance(
    study: Study, subject: str, split: Split, drift: Detrend
) -> Floats | DeconfoundedBold | DetrendedBold:
    """Confounds lose their drift too, or they would bring back what was taken out (Lindquist et al. 2019)."""
    stored: Floats | DetrendedBold = study.bold[subject]
    confounds = study.confounds.get(subject)
    if drift.kind != "none":
        stored = without_drift(stored, split.blocks, drift)
        confounds = None if confounds is None else without_drift(confounds, split.blocks, drift)[:]
    if confounds is None:
        return stored
    return without_confounds(stored, confounds, split.train, study.scan_lengths_trs)


def _held_out_subjects(study: Study, config: Config) -> tuple[str, ...]:
    number = config.split.leave_out_subject
    if number is None:
        return ()
    left = tuple(s for s in study.subjects if s == label(number))
    if not left or len(study.subjects) < 2:
        raise ConfigError(
            f"split.leave_out_subject is {number}; the study has {', '.join(study.subjects)}.",
            "Name the number of one of several subjects, or set it to null.",
        )
    return left


def _in_parcels(study: Study, voxels: NDArray[np.intp]) -> tuple[NDArray[np.intp], dict[str, slice]]:
    """The voxels parcel by parcel, so that a lesion of one is a slice; and where each parcel lies."""
    if study.parcel_V is None:
        return voxels, {}
    label_V = study.parcel_V[voxels]
    rank_V = np.where(label_V > 0, label_V, np.iinfo(label_V.dtype).max)
    order = np.argsort(rank_V, kind="stable")
    labels, starts, counts = np.unique(rank_V[order], return_index=True, return_counts=True)
    found = zip(labels.tolist(), starts.tolist(), counts.tolist(), strict=True)
    names = study.parcel_names
    return voxels[order], {names[n]: slice(start, start + count) for n, start, count in found if n in names}


def _voxels(study: Study, config: Config, sd_SV: list[NDArray[np.float64]]) -> NDArray[np.intp]:
    if study.given_mask_V is not None:
        kept_V = study.given_mask_V & (np.stack(sd_SV) > 0).any(axis=0)
    elif config.data.mask == "atlas" and study.parcel_V is not None:
        kept_V = (study.parcel_V > 0) & (np.stack(sd_SV) > 0).any(axis=0)
    else:
        kept_V = vote_mask(sd_SV)
    voxels = np.flatnonzero(kept_V)
    if not len(voxels):
        raise DataError(
            "No voxel varies in at least half of the subjects over the training TRs.",
            "Look at the files with `python -m giblet_train data check`.",
        )
    if config.model.n_voxels not in (None, len(voxels)):
        raise ConfigError(
            f"model.n_voxels is {config.model.n_voxels}, but the mask of this split keeps {len(voxels)} voxels.",
            "Set model.n_voxels: null; the number follows from the data.",
        )
    return voxels


def _targets(each: LazyZScoredBold, split: Split, config: Config) -> Mapping[str, NDArray[np.float32]]:
    if not config.data.normalize_fmri:
        each = each.raw()
    if config.data.mode == "per_subject":
        return each
    average_TV = np.zeros((each.study.n_trs, len(each.voxels_V)), np.float32)
    for subject in each:
        average_TV += each[subject] / np.float32(len(each))
    if config.data.normalize_fmri:
        average_TV = fit_columns(average_TV, split.train).apply(average_TV)
    return {AVERAGE: average_TV}


def _code_weights(shares_RF: NDArray[np.float32]) -> NDArray[np.float32]:
    variance_F = shares_RF.var(axis=0)
    return np.asarray(variance_F / variance_F.mean(), np.float32)


def _weights(scale: ColumnScale, pca_variance_F: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Mean 1, constant features 0. Components of frames share half of the video's weight, as their variance does."""
    weight_F = (scale.sd_F > 0).astype(np.float32)
    if pca_variance_F is not None:
        n_fixed = len(weight_F) - len(pca_variance_F)
        weight_F[:n_fixed] /= max(1.0, weight_F[:n_fixed].sum())
        weight_F[n_fixed:] *= pca_variance_F / pca_variance_F.sum()
    total = weight_F.sum()
    return weight_F * np.float32(len(weight_F) / total) if total else weight_F


def _inputs(
    raw: Mapping[str, Floats], scaled: Mapping[str, Floats], study: Study, split: Split, config: Config
) -> Mapping[str, Floats]:
    """What the network sees: the features, shares of codes among them; a dense one sees every pixel of a TR's frames in
    place of the video's."""
    if config.model.kind == "dense":
        pixels_TP = study.frames_TKHWC.reshape(len(study.frames_TKHWC), -1).astype(np.float32)
        raw = {**raw, "video": pixels_TP}
        scaled = {**scaled, "video": fit_columns(pixels_TP, split.train).apply(pixels_TP)}
    return _convolved(raw, study, split, config) if config.data.apply_hrf else scaled


def _convolved(
    raw: Mapping[str, NDArray[np.float32]], study: Study, split: Split, config: Config
) -> dict[str, NDArray[np.float32]]:
    """The features through Glover's response of `model.fir_trs` TRs, each scan by itself, then scaled."""
    kernel = glover(study.tr_s, config.model.fir_trs * study.tr_s)
    edges = np.cumsum(study.scan_lengths_trs)[:-1]
    inputs = {}
    for modality, raw_TF in raw.items():
        parts = [convolve_causal(part.astype(np.float64), kernel) for part in np.split(raw_TF, edges)]
        blurred_TF = np.concatenate(parts)
        inputs[modality] = fit_columns(blurred_TF, split.train).apply(blurred_TF)
    return inputs


def _target_stats(bold: Mapping[str, NDArray[np.float32]], train: NDArray[np.intp]) -> dict[str, float]:
    """What the targets of the brain look like over the training TRs, subjects together."""
    means, squares, variances, constant = [], [], [], 0
    for subject in bold:
        rows_RV = bold[subject][train]
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


def _mask_on_grid(study: Study, voxels: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask_XYZ = np.zeros(study.mask_XYZ.shape, bool)
    kept = np.flatnonzero(study.mask_XYZ)[voxels]
    mask_XYZ.ravel()[kept] = True
    return mask_XYZ


def _notes(study: Study, scales: Mapping[str, BoldScale], config: Config) -> tuple[str, ...]:
    notes = list(study.notes)
    pooled = sorted({scan + 1 for scale in scales.values() for scan in scale.pooled_scans})
    if pooled:
        names = ", ".join(map(str, pooled))
        notes.append(f"Scan {names} has too few training TRs; its z-score uses those of all scans.")
    if not config.data.normalize_fmri:
        notes.append(
            "data.normalize_fmri is false: the fMRI keeps the scanner's units, which differ between subjects; "
            "the loss will be dominated by whoever has the largest."
        )
    if len(scales) == 1:
        notes.append("One subject has no inter-subject correlation: every voxel counts as responsive.")
    return tuple(notes)
