"""A study long enough for every check, written in the lab's layout in a second: what poison is planted in.

A small film of shots that differ in picture and sound, a row of annotation for each shot, and brains that follow both.
T TRs, F features, V voxels.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.readers.annotation_table import Segment
from giblet_train.data.readers.lab_workbook import write_annotations
from giblet_train.data.statistics.hrf import convolve_causal, glover
from giblet_train.data.statistics.lag import stimulus_series
from giblet_train.data.stimulus.audio import read_log_mel
from giblet_train.data.stimulus.video import read_frames, video_features
from tests.made_study import write_nifti

TR_S = 1.5
SCANS_TRS = (130, 120)
FILM_S = sum(SCANS_TRS) * TR_S
N_SUBJECTS = 4
FRAMES_HZ = 4
SAMPLE_HZ = 16000
GRID = (8, 7, 8)
DATA = {
    "data_dir": "study",
    "video": "film.mkv",
    "annotations": "annotations.xlsx",
    "bold": "bold/sub-{subject:02d}.nii.gz",
    "scan_lengths_trs": list(SCANS_TRS),
    "features": {"text": {"file": "text.npy"}},
}
"""The `data:` section; embeddings come from a file, so that no sentence model is loaded for every fault."""


def write_study(folder: Path) -> Path:
    """Write the healthy study; return its folder."""
    folder.mkdir(parents=True)
    write_film(folder / "film.mkv")
    write_annotations(folder / "annotations.xlsx", segments(), TR_S, SCANS_TRS)
    np.save(folder / "text.npy", np.random.default_rng(5).standard_normal((sum(SCANS_TRS), 8)).astype(np.float32))
    drive_TF = features(folder)
    for n in range(1, N_SUBJECTS + 1):
        write_nifti(folder / "bold" / f"sub-{n:02d}.nii.gz", _volumes(drive_TF, n), TR_S)
    return folder


def cuts_s() -> NDArray[np.float64]:
    """Return where shots begin, and the film's end; one begins with the second scan."""
    random = np.random.default_rng(1)
    inner = np.cumsum(np.rint(random.uniform(2.0, 6.0, 200) * FRAMES_HZ) / FRAMES_HZ)
    return np.unique(np.r_[0.0, inner[inner < FILM_S - 2.0], SCANS_TRS[0] * TR_S, FILM_S])


def segments() -> list[Segment]:
    """Return a row for each shot."""
    edges = cuts_s()
    return [Segment(float(a), float(b), f"shot {n}") for n, (a, b) in enumerate(pairwise(edges))]


def write_film(path: Path, speed: float = 1.0) -> None:
    """Write the film, played at `speed` times its own."""
    edges = cuts_s() / speed
    random = np.random.default_rng(2)
    looks = random.integers(0, 256, (len(edges), 6, 8, 3), dtype=np.uint8).repeat(6, axis=1).repeat(8, axis=2)
    loud, pitch_hz = random.uniform(0.02, 0.5, len(edges)), random.choice([200.0, 400.0, 800.0, 1600.0], len(edges))
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FRAMES_HZ, options={"qscale": "3"})
        video.width, video.height, video.pix_fmt = 64, 36, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=SAMPLE_HZ, layout="mono")
        for second in range(int(edges[-1]) + 1):
            for n in range(second * FRAMES_HZ, (second + 1) * FRAMES_HZ):
                shot = int(np.searchsorted(edges, n / FRAMES_HZ, "right")) - 1
                picture = av.VideoFrame.from_ndarray(looks[min(shot, len(looks) - 1)], format="rgb24")
                picture.pts, picture.time_base = n, Fraction(1, FRAMES_HZ)
                container.mux(video.encode(picture))
            time_s = second + np.arange(SAMPLE_HZ) / SAMPLE_HZ
            shot_N = (np.searchsorted(edges, time_s, "right") - 1).clip(max=len(loud) - 1)
            wave = (32767 * loud[shot_N] * np.sin(2 * np.pi * pitch_hz[shot_N] * time_s)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_HZ, second * SAMPLE_HZ, Fraction(1, SAMPLE_HZ)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def film_features(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Return giblet's own features of the film, modality -> (T, F)."""
    n_trs, film = sum(SCANS_TRS), folder / "film.mkv"
    return {
        "video": video_features(read_frames(film, TR_S, n_trs, 2.0, 36, 64)),
        "audio": read_log_mel(film, TR_S, n_trs, 16).reshape(n_trs, -1),
    }


def features(folder: Path) -> NDArray[np.float64]:
    """Return (T, F) what the brains follow."""
    series_TF = stimulus_series(film_features(folder), TR_S)
    return series_TF / series_TF.std(axis=0)


def _volumes(drive_TF: NDArray[np.float64], subject: int) -> NDArray[np.int16]:
    """Return (X, Y, Z, T) in a scanner's units, 0 at the rim: the same half of the voxels follows the film."""
    shared_rng, own = np.random.default_rng(3), np.random.default_rng([4, subject])
    inner = tuple(n - 2 for n in GRID)
    weights_FV = shared_rng.standard_normal((drive_TF.shape[1], int(np.prod(inner))))
    weights_FV[:, shared_rng.random(weights_FV.shape[1]) < 0.5] = 0.0
    parts = np.split(drive_TF @ weights_FV, [SCANS_TRS[0]])
    response_TV = np.concatenate([convolve_causal(part, glover(TR_S)) for part in parts])
    noise_TV = own.standard_normal(response_TV.shape) * response_TV.std() * 1.5
    units_TV = 900.0 * subject + 12.0 * subject * (response_TV + noise_TV)
    volumes = np.zeros((*GRID, len(units_TV)), np.int16)
    volumes[1:-1, 1:-1, 1:-1] = units_TV.T.reshape(*inner, -1)
    return volumes
