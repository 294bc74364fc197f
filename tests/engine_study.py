"""A film and brains made of known numbers, as `PreparedSplit`, in milliseconds: what the engine's tests train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.preprocessing.split_data import PreparedSplit
from giblet_train.data.preprocessing.splits import Split
from giblet_train.data.statistics.hrf import glover
from giblet_train.data.stimulus.frame_pca import FramePca
from giblet_train.data.study import Study
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping
from giblet_train.schema.records import ModalityFacts

ALONE = ProcessGroup(0, 1, torch.device("cpu"))
WIDTHS = {"video": 20, "audio": 12, "text": 8}


def config(**overrides: Any) -> Config:
    """Return a configuration that trains in seconds."""
    value: dict[str, Any] = {
        "name": "unit",
        "threads": 1,
        "num_epochs": 2,
        "steps_per_epoch": 10,
        "warmup_steps": 4,
        "learning_rate": 2e-3,
        "model": {"width": 16, "n_layers": 1, "bottleneck_dim": 6, "window_trs": 40, "context_trs": 12, "fir_trs": 13},
        "split": {"gap_trs": 14},
    }
    for key, item in overrides.items():
        value[key] = {**value[key], **item} if isinstance(item, dict) and key in value else item
    return from_mapping(value).config


def split_data(
    n_trs: int = 300, n_voxels: int = 60, n_subjects: int = 3, seed: int = 0, signal: float = 0.6
) -> PreparedSplit:
    """Return two scans; the first third of the voxels follows the film through an HRF, alike in all subjects."""
    rng = np.random.default_rng(seed)
    split = Split(n_trs, 0, 14, ((0, 90), (104, 150), (150, 200)), ((214, 240),), ((254, 300),))
    train = split.train
    smooth = np.array([0.25, 0.5, 0.25])
    features = {
        m: _scored(np.apply_along_axis(np.convolve, 0, rng.normal(size=(n_trs, w)), smooth, "same"), train)
        for m, w in WIDTHS.items()
    }
    drive = np.concatenate([features[m][:, :3] for m in WIDTHS], axis=1) @ rng.normal(size=(9, n_voxels // 3))
    delayed = np.apply_along_axis(lambda x: np.convolve(x, glover(1.5))[:n_trs], 0, drive)
    delayed /= delayed[train].std(axis=0)
    bold = {}
    for s in range(n_subjects):
        noise = rng.normal(size=(n_trs, n_voxels))
        noise[:, : n_voxels // 3] = np.sqrt(signal) * delayed + np.sqrt(1 - signal) * noise[:, : n_voxels // 3]
        bold[f"sub-{s + 1:02d}"] = _scored(noise, train)
    responsive = np.arange(n_voxels) < n_voxels // 3
    mask = np.ones((n_voxels, 1, 1), bool)
    study = Study(
        key="synthetic",
        tr_s=1.5,
        scan_lengths_trs=(150, n_trs - 150),
        border_trs=(),
        features=features,
        frames_TKHWC=np.zeros((n_trs, 1, 2, 2, 3), np.uint8),
        text_labels=("",) * n_trs,
        bold=bold,
        reference={s: np.zeros(n_voxels, np.float32) for s in bold},
        mask=mask,
        geometry=VolumeGrid.of(mask.shape, np.eye(4)),
    )
    fact = ModalityFacts(
        n_targets=1, raw_mean=0.0, raw_sd=1.0, raw_min=-3.0, raw_max=3.0, mean=0.0, sd=1.0, train_variance=1.0
    )
    return PreparedSplit(
        study=study,
        split=split,
        inputs=features,
        targets=features,
        target_weights={m: np.ones(w, np.float32) for m, w in WIDTHS.items()},
        bold=bold,
        voxels_V=np.arange(n_voxels),
        mask=mask,
        isc_V=np.where(responsive, 0.5, 0.0).astype(np.float32),
        responsive_V=responsive,
        null_V=~responsive,
        frame_pca=FramePca(np.zeros(12, np.float32), np.zeros((0, 12), np.float32), np.zeros(0, np.float32)),
        pca_columns=slice(0, 0),
        feature_mean={m: np.zeros(w, np.float32) for m, w in WIDTHS.items()},
        feature_sd={m: np.ones(w, np.float32) for m, w in WIDTHS.items()},
        facts=dict.fromkeys(("fmri", *WIDTHS), fact),
    )


def load(config: Config, workdir: Path, progress: Callable[[str, float], None]) -> PreparedSplit:
    """Return what `train` is given instead of a store."""
    progress("making a synthetic study", 1.0)
    return split_data()


def _scored(x_TF: NDArray[np.float64], train: NDArray[np.intp]) -> NDArray[np.float32]:
    scores_TF: NDArray[np.float32] = ((x_TF - x_TF[train].mean(axis=0)) / x_TF[train].std(axis=0)).astype(np.float32)
    return scores_TF
