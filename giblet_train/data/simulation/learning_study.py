"""A study in memory whose responses have a chosen form and a known ceiling: what the engine can and cannot learn.

It shares nothing with the simulator of the demo: films are drawn, the noise has another spectrum, and responses mix a
few prototypes. T TRs, D factors, F features, P prototypes, V voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.simulation.response_forms import FORMS, FormInputs, leaky_integral, standardized
from giblet_train.data.statistics import hrf
from giblet_train.data.stimulus.frame_pca import FramePca
from giblet_train.data.study import Study
from giblet_train.schema.records import ModalityFacts

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

WIDTHS = {"video": 48, "audio": 40, "text": 32}
N_FACTORS, N_PROTOTYPES = 8, 8
TR_S = 1.5
BLOCK_TRS, GAP_TRS = 300, 14
VALIDATION_TRS, TEST_TRS = 150, 400
SHOT_TRS = 6.0
SHARED_VARIANCE = 0.8
HRF_PEAK_S = (4.5, 6.5)
NOISE_PARTS = {0.0: 0.4, 4.0: 0.4, 40.0: 0.2}
"""Time constant in seconds -> share of the noise variance; 0 is white."""


@dataclass(frozen=True)
class LearningStudy:
    """A split, and the noiseless responses behind it."""

    data: PreparedSplit
    clean: Mapping[str, Singles]
    """Subject -> noiseless responses (T, V), 0 in unresponsive voxels."""

    def ceiling(self) -> float:
        """Return the best possible r on the test TRs: of noiseless with measured responses."""
        rows, yes_V = self.data.split.test, self.data.responsive_V
        return float(
            np.mean(
                [_mean_r(clean[rows][:, yes_V], self.data.bold[s][rows][:, yes_V]) for s, clean in self.clean.items()]
            )
        )


def simulate_learning_study(
    form: str,
    n_train_trs: int,
    seed: int,
    *,
    form_share: float = 1.0,
    voxel_share: float = 1.0,
    signal: float = 0.3,
    n_subjects: int = 3,
    n_voxels: int = 120,
) -> LearningStudy:
    """Simulate a study of one response form.

    Args:
        form: one of `response_forms.FORMS`.
        n_train_trs: training TRs; validation and test blocks are added.
        seed: the same seed and arguments give the same study.
        form_share: share of the form in the explainable variance; the rest is linear.
        voxel_share: share of the responsive voxels that have the form; the others are linear.
        signal: share of the explainable variance in the variance of responsive voxels.
        n_subjects: number of subjects.
        n_voxels: number of voxels, two thirds of them responsive.
    """
    rng = np.random.default_rng([seed, n_train_trs])
    split = _split(n_train_trs)
    factors = {m: _factors(rng, split.n_trs) for m in WIDTHS}
    features = {m: _z_scored(_features(rng, factors[m], n), split.train) for m, n in WIDTHS.items()}
    drives = {
        name: standardized(FORMS[name](FormInputs(factors, np.random.default_rng([seed, n]), N_PROTOTYPES, TR_S)))
        for n, name in enumerate(("linear", form))
    }
    n_responsive = 2 * n_voxels // 3
    share_V = np.where(np.arange(n_responsive) < round(voxel_share * n_responsive), form_share, 0.0)
    group = {name: rng.normal(size=(N_PROTOTYPES, n_responsive)) for name in ("linear", "form")}
    bold, clean = {}, {}
    for n in range(n_subjects):
        own = {k: _subject_weights(rng, weights_PV) for k, weights_PV in group.items()}
        kernel_K = hrf.double_gamma(rng.uniform(*HRF_PEAK_S), TR_S)
        parts = [
            np.sqrt(share) * standardized(hrf.convolve_causal(drives[name], kernel_K) @ own[key])
            for name, key, share in (("linear", "linear", 1.0 - share_V), (form, "form", share_V))
        ]
        response_TV = np.zeros((split.n_trs, n_voxels))
        response_TV[:, :n_responsive] = np.sqrt(signal) * standardized(sum(parts[1:], parts[0]))
        noise_TV = _noise(rng, split.n_trs, n_voxels)
        noise_TV[:, :n_responsive] *= np.sqrt(1.0 - signal)
        subject = f"sub-{n + 1:02d}"
        bold[subject] = _z_scored(response_TV + noise_TV, split.train)
        clean[subject] = response_TV.astype(np.float32)
    return LearningStudy(_prepared(split, features, bold, n_responsive), clean)


def _mean_r(first_TV: Singles, second_TV: Singles) -> float:
    return float((standardized(first_TV.astype(float)) * standardized(second_TV.astype(float))).mean())


def _split(n_train_trs: int) -> Split:
    """Return training blocks of at most BLOCK_TRS, then the validation and the test block, all with gaps."""
    blocks, start = [], 0
    while n_train_trs > 0:
        length = min(n_train_trs, BLOCK_TRS)
        blocks.append((start, start + length))
        start, n_train_trs = start + length + GAP_TRS, n_train_trs - length
    validation = (start, start + VALIDATION_TRS)
    test = (validation[1] + GAP_TRS, validation[1] + GAP_TRS + TEST_TRS)
    return Split(test[1], 0, GAP_TRS, tuple(blocks), (validation,), (test,))


def _factors(rng: np.random.Generator, n_trs: int) -> Floats:
    """Return (T, D) factors of a film: steps at cuts plus slow changes, unit variance."""
    cut_T = rng.random(n_trs) < 1.0 / SHOT_TRS
    shot_TD = rng.normal(size=(n_trs, N_FACTORS))[np.cumsum(cut_T)]
    slow_TD = standardized(leaky_integral(rng.normal(size=(n_trs, N_FACTORS)), np.full(N_FACTORS, SHOT_TRS)))
    return standardized(shot_TD + slow_TD)


def _features(rng: np.random.Generator, factors_TD: Floats, width: int) -> Floats:
    """Return (T, F) features: mixtures of the factors, and variance of their own that does not drive the brain."""
    mixed_TF = standardized(factors_TD @ rng.normal(size=(factors_TD.shape[1], width)))
    return mixed_TF + 0.5 * rng.normal(size=mixed_TF.shape)


def _subject_weights(rng: np.random.Generator, weights_PV: Floats) -> Floats:
    """Return a subject's weights: the group's and their own."""
    own_PV = rng.normal(size=weights_PV.shape)
    return np.asarray(np.sqrt(SHARED_VARIANCE) * weights_PV + np.sqrt(1.0 - SHARED_VARIANCE) * own_PV)


def _noise(rng: np.random.Generator, n_trs: int, n_voxels: int) -> Floats:
    """Return (T, V) noise of unit variance with the spectrum of NOISE_PARTS."""
    noise_TV = np.zeros((n_trs, n_voxels))
    for time_constant_s, share in NOISE_PARTS.items():
        white_TV = rng.normal(size=(n_trs, n_voxels))
        if time_constant_s:
            white_TV = standardized(leaky_integral(white_TV, np.full(n_voxels, time_constant_s / TR_S)))
        noise_TV += np.sqrt(share) * white_TV
    return noise_TV


def _z_scored(x_TF: Floats, train: NDArray[np.intp]) -> Singles:
    return np.asarray((x_TF - x_TF[train].mean(axis=0)) / x_TF[train].std(axis=0), np.float32)


def _prepared(
    split: Split, features: Mapping[str, Singles], bold: Mapping[str, Singles], n_responsive: int
) -> PreparedSplit:
    n_voxels = next(iter(bold.values())).shape[1]
    responsive_V = np.arange(n_voxels) < n_responsive
    mask = np.ones((n_voxels, 1, 1), bool)
    study = Study(
        key="learning-study",
        tr_s=TR_S,
        scan_lengths_trs=(split.n_trs,),
        border_trs=(),
        features=features,
        frames_TKHWC=np.zeros((split.n_trs, 1, 2, 2, 3), np.uint8),
        text_labels=("",) * split.n_trs,
        bold=bold,
        reference={s: np.zeros(n_voxels, np.float32) for s in bold},
        mask=mask,
        geometry=VolumeGrid.of(mask.shape, np.eye(4)),
    )
    facts = ModalityFacts(
        n_targets=1, raw_mean=0.0, raw_sd=1.0, raw_min=-3.0, raw_max=3.0, mean=0.0, sd=1.0, train_variance=1.0
    )
    return PreparedSplit(
        study=study,
        split=split,
        inputs=features,
        targets=features,
        target_weights={m: np.ones(x.shape[1], np.float32) for m, x in features.items()},
        bold=bold,
        voxels_V=np.arange(n_voxels),
        mask=mask,
        isc_V=np.where(responsive_V, 0.3, 0.0).astype(np.float32),
        responsive_V=responsive_V,
        null_V=~responsive_V,
        frame_pca=FramePca(np.zeros(12, np.float32), np.zeros((0, 12), np.float32), np.zeros(0, np.float32)),
        pca_columns=slice(0, 0),
        feature_mean={m: np.zeros(x.shape[1], np.float32) for m, x in features.items()},
        feature_sd={m: np.ones(x.shape[1], np.float32) for m, x in features.items()},
        facts=dict.fromkeys(("fmri", *features), facts),
    )
