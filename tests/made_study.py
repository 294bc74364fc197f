"""Small studies for tests: arrays in memory with a known signal, and NIfTI files on disk.

T TRs, V voxels, F features, S subjects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.geometry import VolumeGrid
from giblet_train.data.study import Study
from giblet_train.schema.config import Config
from giblet_train.schema.config_loader import from_mapping

TINY_DATA = {
    "video": "film.mp4",
    "annotations": "annotations.xlsx",
    "bold": "bold/sub-{subject:02d}.nii.gz",
    "scan_lengths_trs": [30, 30],
}
"""The `data:` section that reads a folder of the tiny demo study."""

AFFINE = np.array([[3.0, 0, 0, -20], [0, 3, 0, -30], [0, 0, 3, -10], [0, 0, 0, 1]])


def made_config(**changes: Any) -> Config:
    """Return a configuration for tests; keyword arguments are top-level keys, dicts for sections."""
    return from_mapping({"name": "made", **changes}).config


def made_study(
    scan_lengths_trs: tuple[int, ...] = (60, 50),
    n_subjects: int = 3,
    shape: tuple[int, int, int] = (4, 5, 6),
    lag_trs: int = 3,
    noise: float = 1.0,
    seed: int = 0,
) -> Study:
    """Return a study whose first half of voxels follow the features by `lag_trs`; the others are noise."""
    random = np.random.default_rng(seed)
    n_trs, n_voxels = sum(scan_lengths_trs), int(np.prod(shape))
    frames = random.integers(0, 256, (n_trs, 2, 6, 8, 3), dtype=np.uint8)
    features = {
        m: _smooth(random.standard_normal((n_trs, f))).astype(np.float32)
        for m, f in {"video": 6, "audio": 8, "text": 5}.items()
    }
    drive_TF = np.concatenate([features["video"], features["audio"]], axis=1)
    group = random.standard_normal((drive_TF.shape[1], n_voxels))
    group[:, n_voxels // 2 :] = 0.0
    bold, reference = {}, {}
    for n in range(n_subjects):
        raw_TV = np.roll(drive_TF, lag_trs, axis=0) @ group
        raw_TV = 1000 + 200 * n + 10 * (n + 1) * (raw_TV + noise * _smooth(random.standard_normal(raw_TV.shape)))
        label = f"sub-{n + 1:02d}"
        reference[label] = raw_TV[0].astype(np.float32)
        bold[label] = (raw_TV - raw_TV[0]).astype(np.float16)
    return Study(
        key="made",
        tr_s=1.5,
        scan_lengths_trs=scan_lengths_trs,
        border_trs=tuple(range(3, n_trs, 5)),
        features=features,
        frames_TKHWC=frames,
        text_labels=("scene",) * n_trs,
        bold=bold,
        reference=reference,
        mask=np.ones(shape, bool),
        geometry=VolumeGrid.of(shape, AFFINE),
    )


def write_nifti(path: Path, volumes_XYZT: NDArray[Any], tr: float = 1.5, unit: str = "sec") -> Path:
    """Write a NIfTI file with the given TR in the given unit of its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nibabel.Nifti1Image(volumes_XYZT, AFFINE)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4] = tr
    nibabel.save(image, path)
    return path


def made_volumes(seed: int = 0, shape: tuple[int, int, int] = (5, 6, 4), n_trs: int = 20) -> NDArray[np.int16]:
    """Return raw scanner units inside a block of voxels, zero outside."""
    random = np.random.default_rng(seed)
    volumes = np.zeros((*shape, n_trs), np.int16)
    inner = volumes[1:, 1:, 1:]
    inner += 900
    inner += (80 * random.standard_normal(inner.shape)).astype(np.int16)
    return volumes


def _smooth(noise_TF: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    smooth = np.apply_along_axis(lambda column: np.convolve(column, kernel / kernel.sum(), "same"), 0, noise_TF)
    return smooth / smooth.std(axis=0)
