"""Compare the maps of a run on a demo study with the simulated truth.

    python -m benchmarks.maps RUN_DIR

T TRs, V voxels, R responsive voxels of the truth, F features.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from giblet_train.analysis.held_out_maps import held_out_maps
from giblet_train.analysis.load_run import LoadedRun, load_run
from giblet_train.data.preprocessing.parcels import MODALITY_OF
from giblet_train.data.simulation.ground_truth import GROUPS
from giblet_train.data.simulation.regions import REGIONS
from giblet_train.data.statistics import hrf
from giblet_train.data.store.store import study_folder
from giblet_train.training.load_split import load_split

Floats = NDArray[np.float64]


def main() -> None:
    run = load_run(Path(sys.argv[1]), "best", load_split, lambda *_: None)
    folder = study_folder(run.config, run.workdir / run.config.data.data_dir, run.workdir, lambda *_: None)[0]
    truth = np.load(folder / "truth.npz")
    region_V = run.data.from_grid(truth["region_XYZ"].astype(int))
    posterior, maps = run.setup.posterior, held_out_maps(run)
    assert posterior is not None
    signal_V = region_V > 0
    shares = [dict.fromkeys(posterior.spaces, 0.0) for _ in REGIONS]
    for region, share in zip(REGIONS, shares, strict=True):
        for group, value in region.shares.items():
            share[MODALITY_OF[group]] += value
    best = np.array([posterior.spaces.index(max(share, key=lambda m: share[m])) for share in shares])
    largest_V = posterior.share_VM.argmax(axis=1)
    pure_V = signal_V & (np.array([max(share.values()) for share in shares])[region_V - 1] >= 0.8)
    right_V = largest_V == best[region_V - 1]
    auditory_V = region_V == 1 + next(n for n, region in enumerate(REGIONS) if region.name == "auditory")
    audio_V = posterior.preferred_V == posterior.spaces.index("audio")
    share_V = true_shares(run, truth, json.loads((folder / "truth.json").read_text()))
    inside_V = (posterior.low_V <= share_V) & (share_V <= posterior.high_V)
    significant_V = maps.significant()
    print(f"true space has the largest share, signal voxels       {right_V[signal_V].mean():.3f}")
    print(f"the same, regions with at least .8 from one space     {right_V[pure_V].mean():.3f}")
    print(f"Dice of voxels named audio and the auditory region    {dice(audio_V, auditory_V):.3f}")
    print(f"called driven: signal voxels, voxels without signal   {posterior.driven_V[signal_V].mean():.3f}, ", end="")
    print(f"{posterior.driven_V[~signal_V].mean():.3f}")
    print(
        f"90 % intervals of explained variance: signal, all     {inside_V[signal_V].mean():.3f}, {inside_V.mean():.3f}"
    )
    print(f"significant at FDR .05: signal, without signal        {significant_V[signal_V].mean():.3f}, ", end="")
    print(f"{significant_V[~signal_V].mean():.4f}")


def dice(first_V: NDArray[np.bool_], second_V: NDArray[np.bool_]) -> float:
    """Return the overlap of two sets of voxels."""
    return float(2 * (first_V & second_V).sum() / max(1, first_V.sum() + second_V.sum()))


def true_shares(run: LoadedRun, truth: Any, described: dict[str, Any]) -> Floats:
    """Return the share of variance of the mean response over training TRs (V,) that is signal; 0 without signal."""
    data, train = run.data, run.data.split.train
    brain_XYZ = truth["brain_XYZ"]
    region_R = truth["region_XYZ"][brain_XYZ]
    region_R = region_R[region_R > 0]
    mean_TR: Any = 0.0
    for subject in described["subjects"]:
        kernel = hrf.double_gamma(subject["hrf_peak_s"], data.study.tr_s)
        response_TR: Any = 0.0
        for group in GROUPS:
            scans = np.split(truth[f"features_{group}_TF"].astype(float), np.cumsum(data.study.scan_lengths_trs)[:-1])
            driven_TF = np.concatenate([hrf.convolve_causal(scan, kernel) for scan in scans])
            weights_FR = truth[f"sub-{subject['number']:02d}_weights_{group}_FR"].astype(float)
            share_R = np.array([region.shares.get(group, 0.0) for region in REGIONS])[region_R - 1]
            response_TR = response_TR + scaled(driven_TF @ weights_FR) * np.sqrt(share_R)
        # The noise has a standard deviation of 100 / tSNR percent.
        signal_TR = scaled(response_TR) * truth["percent_R"] * subject["tsnr"] / 100.0
        mean_TR = mean_TR + signal_TR / np.sqrt(signal_TR.var(axis=0) + 1.0) / len(described["subjects"])
    column_XYZ = np.full(brain_XYZ.shape, -1)
    column_XYZ[truth["region_XYZ"] > 0] = np.arange(len(region_R))
    column_V = data.from_grid(column_XYZ)
    measured_TV = np.mean([data.bold[subject][train] for subject in data.subjects], axis=0)
    signal_TR = data.drift.apply(mean_TR[train], data.split.train_blocks)
    share_V = np.zeros(data.n_voxels)
    share_V[column_V >= 0] = signal_TR.var(axis=0)[column_V[column_V >= 0]] / measured_TV.var(axis=0)[column_V >= 0]
    return share_V


def scaled(x_TR: Floats) -> Floats:
    """Return columns of mean 0 and variance 1."""
    centred = x_TR - x_TR.mean(axis=0)
    sd_R = centred.std(axis=0)
    return np.asarray(centred / np.where(sd_R > 0, sd_R, 1.0))


if __name__ == "__main__":
    main()
