"""Tiny series in every format, written by nibabel, numpy and h5py from one (T, N) array of known numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

from tests.made_study import AFFINE

N_LEFT, N_RIGHT, N_DEEP = 14, 10, 8
N = N_LEFT + N_RIGHT + N_DEEP
Array = NDArray[Any]


def brain_models() -> Any:
    """Return two hemispheres without some of their vertices, and a subcortical structure: N grayordinates."""
    left = cifti2.BrainModelAxis.from_surface(np.arange(2, 2 + N_LEFT), 20, name="CortexLeft")
    right = cifti2.BrainModelAxis.from_surface(np.arange(0, 2 * N_RIGHT, 2), 20, name="CortexRight")
    inside = np.zeros((5, 6, 4), bool)
    inside[1:3, 2:4, 1:3] = True
    return left + right + cifti2.BrainModelAxis.from_mask(inside, name="Amygdala_left", affine=AFFINE)


def parcels_axis(names: Sequence[str] = tuple(f"P{n}" for n in range(N))) -> Any:
    """Return one parcel per grayordinate."""
    models = brain_models()
    return cifti2.ParcelsAxis.from_brain_models([(name, models[n : n + 1]) for n, name in enumerate(names)])


def write_cifti(path: Path, values_TN: Array, axis: Any, tr_s: float = 1.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    series = cifti2.SeriesAxis(0.0, tr_s, len(values_TN))
    nibabel.save(cifti2.Cifti2Image(values_TN.astype(np.float32), (series, axis)), path)
    return path


def write_dense(path: Path, values_TN: Array, tr_s: float = 1.5) -> Path:
    return write_cifti(path.with_name(path.name + ".dtseries.nii"), values_TN, brain_models(), tr_s)


def write_parcellated(path: Path, values_TN: Array, tr_s: float = 1.5) -> Path:
    return write_cifti(path.with_name(path.name + ".ptseries.nii"), values_TN, parcels_axis(), tr_s)


def write_surfaces(path: Path, values_TN: Array, tr_s: float = 1.5) -> Path:
    """Write a pair of GIFTI series; the left one has the first half of the columns. Return the left file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = values_TN.shape[1] // 2
    files = []
    for side, part in (("L", values_TN[:, :half]), ("R", values_TN[:, half:])):
        arrays = [
            nibabel.gifti.GiftiDataArray(row.astype(np.float32), "NIFTI_INTENT_TIME_SERIES", "NIFTI_TYPE_FLOAT32")
            for row in part
        ]
        meta = nibabel.gifti.GiftiMetaData({"TimeStep": str(tr_s)})
        files.append(path.with_name(f"{path.name}_hemi-{side}_bold.func.gii"))
        nibabel.save(nibabel.gifti.GiftiImage(meta=meta, darrays=arrays), files[-1])
    return files[0]


def write_npy(path: Path, values_TN: Array, tr_s: float = 1.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(path.name + ".npy")
    np.save(file, values_TN.astype(np.float32))
    return file


def write_h5(path: Path, values_TN: Array, tr_s: float = 1.5) -> Path:
    """Write two datasets, of which `film` is the series."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path.with_name(path.name + ".h5"), "w") as file:
        file["ses-1/film"] = values_TN.astype(np.float32)
        file["ses-1/rest"] = np.zeros((3, 2))
    return path.parent / (path.name + ".h5::ses-1/film")


def write_tsv(path: Path, values_TN: Array, tr_s: float = 1.5, *, names: Sequence[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(path.name + ".tsv")
    with open(file, "w", newline="") as stream:
        rows = csv.writer(stream, delimiter="\t")
        rows.writerow(names or [f"P{n}" for n in range(values_TN.shape[1])])
        rows.writerows(values_TN.tolist())
    return file


WRITERS: dict[str, Callable[[Path, Array, float], Path]] = {
    "dense": write_dense,
    "parcellated": write_parcellated,
    "surfaces": write_surfaces,
    "npy": write_npy,
    "h5": write_h5,
    "tsv": write_tsv,
}

STUDY_TRS = 120


def write_study(folder: Path, form: str, n_subjects: int = 2) -> dict[str, Any]:
    """Write two subjects who follow three modalities, in one format. Returns the `data:` section.

    The first half of the positions follows the features, the others are noise. Every format has the same numbers.
    """
    random = np.random.default_rng(3)
    annotations = [f"{t * 6.0},{t * 6.0 + 6.0},scene {t % 4}" for t in range(STUDY_TRS // 4)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "story.csv").write_text("\n".join(["start_s,end_s,detail", *annotations]))
    features = {}
    for modality in ("video", "audio", "text"):
        slow_TF = np.cumsum(random.standard_normal((STUDY_TRS, 3)), axis=0)
        features[modality] = slow_TF - np.linspace(slow_TF[0], slow_TF[-1], STUDY_TRS)
        np.save(folder / f"{modality}.npy", features[modality].astype(np.float32))
    drive_TF = np.roll(np.concatenate(list(features.values()), axis=1), 3, axis=0)
    weights_FN = random.standard_normal((drive_TF.shape[1], N))
    weights_FN[:, N // 2 :] = 0.0
    signal_TN = drive_TF @ weights_FN / 4.0
    rows = []
    for n in range(n_subjects):
        values_TN = np.round(1000 + 10 * (signal_TN + random.standard_normal(signal_TN.shape)), 2).astype(np.float32)
        path = WRITERS[form](folder / "bold" / f"sub-{n + 1:02d}", values_TN, 1.5)
        rows.append(f"{n + 1:02d}\t{path.relative_to(folder)}\tstory")
    (folder / "runs.tsv").write_text("\n".join(["subject\tbold\tstimulus", *rows]))
    sources = {m: {"file": f"{m}.npy", "rows_per_s": 1 / 1.5} for m in features}
    stimuli = {"story": {"annotations": "story.csv", "features": sources}}
    return {"data_dir": folder.name, "runs": "runs.tsv", "stimuli": stimuli, "tr": 1.5}
