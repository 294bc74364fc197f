"""A study with a table of runs and known truth: subjects with different films, crops and missing runs.

T TRs, V voxels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.generated_film import SMALL, generated_film
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.video import read_frames, video_features
from tests.made_study import write_nifti

TR_S = 1.5
FILM_TRS = {"a": 150, "b": 130}
FIXATION_TRS = 6
GRID = (5, 6, 5)
SD_OF_LIGHT, SD_OF_SOUND = np.array([0.1, 0.05, 0.02]), 6.0
RUNS = (
    ("01", "a", 0, 0),
    ("01", "b", FIXATION_TRS, 0),
    ("02", "a", -8, 0),
    ("02", "b", FIXATION_TRS, 0),
    ("sid03", "a", 0, 20),
    ("pixar4", "b", 0, 0),
)
"""Subject, film, TRs from the start of the scan to that of the film, TRs missing at the end of the scan."""

STIMULI = {name: {"video": f"{name}.mp4", "annotations": f"{name}.csv"} for name in FILM_TRS}
DATA = {"runs": "runs.tsv", "stimuli": STIMULI, "tr": TR_S}


def write_study(folder: Path) -> Path:
    """Write films, annotations, brains and the table."""
    folder.mkdir(parents=True)
    drive = {name: _write_film(folder, name, seed) for seed, name in enumerate(FILM_TRS)}
    mean_F = np.concatenate(list(drive.values())).mean(axis=0)
    drive = {name: drive_TF - mean_F for name, drive_TF in drive.items()}
    lines = ["subject\tbold\tstimulus\tscan_onset_s"]
    for n, (subject, film, onset, cut) in enumerate(RUNS):
        name = f"bold/{subject}_{film}.nii.gz"
        write_nifti(folder / name, _volumes(drive[film], subject, n, onset, cut), TR_S)
        lines.append(f"{subject}\t{name}\t{film}\t{onset * TR_S:g}")
    (folder / "runs.tsv").write_text("\n".join(lines) + "\n")
    return folder


def expected_volume(film: str, second_s: float, onset: int) -> int:
    """Return the volume that shows a second of the film."""
    return int(second_s / TR_S) + onset


def _write_film(folder: Path, name: str, seed: int) -> NDArray[np.float64]:
    """Write a film with annotations; return what drives the brain, (T, 4): light, contrast, motion, loudness."""
    n_trs = FILM_TRS[name]
    film = generated_film(folder / f"{name}.mp4", n_trs * TR_S + 0.5, seed + 3, form=SMALL)
    rows = ["start_s,end_s,detail", *(f"{s.start_s},{s.end_s},{s.detail}" for s in film.shots)]
    (folder / f"{name}.csv").write_text("\n".join(rows))
    video_TF = video_features(read_frames(film.path, TR_S, n_trs, 2.0, 18, 32))
    audio_TF = read_log_mel(film.path, TR_S, n_trs, 16).reshape(n_trs, -1)
    return np.concatenate([video_TF[:, :3] / SD_OF_LIGHT, audio_TF.mean(axis=1, keepdims=True) / SD_OF_SOUND], axis=1)


def _volumes(drive_TF: NDArray[np.float64], subject: str, seed: int, onset: int, cut: int) -> NDArray[np.float32]:
    """Return (X, Y, Z, T): half of the voxels follow the film; before and after it there is only noise."""
    n_voxels = int(np.prod(GRID))
    weights = np.random.default_rng(5).standard_normal((drive_TF.shape[1], n_voxels // 2))
    response_TV = convolve_causal(drive_TF @ weights, glover(TR_S))
    response_TV = np.concatenate([np.zeros((max(0, onset), n_voxels // 2)), response_TV[max(0, -onset) :]])
    response_TV = response_TV[: len(response_TV) - cut]
    random = np.random.default_rng(50 + seed)
    noise = random.standard_normal((len(response_TV), n_voxels))
    noise[:, : n_voxels // 2] += 2.0 * response_TV / response_TV.std()
    return (1000 + 10 * noise.T.reshape(*GRID, -1)).astype(np.float32)
