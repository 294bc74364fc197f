"""Compare the maps of the demo's runs with the simulated truth: `python -m benchmarks.maps WORKDIR`, a page on stdout.

Simulated brain, real film. The ridge initialisation of the demo is fitted on each of its folds; nothing is trained.
T TRs, V voxels, R responsive voxels of the truth, F features, M feature spaces, N TRs of the initialisation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.demo_runs import CONFIG, report_progress
from giblet_train.analysis.held_out_maps import held_out_maps
from giblet_train.analysis.load_run import LoadedRun
from giblet_train.components.build import TrainingSetup
from giblet_train.components.refit import refit
from giblet_train.data.preprocessing.parcels import MODALITY_OF
from giblet_train.data.simulation.ground_truth import GROUPS
from giblet_train.data.simulation.regions import REGIONS
from giblet_train.data.statistics import hrf
from giblet_train.data.store.store import study_folder
from giblet_train.distributed.process_group import ProcessGroup
from giblet_train.evaluation.evaluator import Evaluator
from giblet_train.schema.config_loader import load
from giblet_train.schema.records import CheckpointRecord
from giblet_train.schema.run_dir import RunDir
from giblet_train.training.load_split import load_split

Floats = NDArray[np.float64]
N_FOLDS = 5
AUDITORY = 1 + next(n for n, region in enumerate(REGIONS) if region.name == "auditory")
PURE = 0.8
"""Share of the true variance from which a region has one space."""
ROWS = {
    "right": "true space has the largest share, signal voxels",
    "attainable": "the same of an observer who knows each space's part in these TRs without error",
    "right_there": "space that has the largest share in these TRs has the largest estimate, signal voxels",
    "right_pure": "true space has the largest share, regions with at least 80 % of their variance from one space",
    "named": "named as in these TRs (a space with more than half, or mixed), driven signal voxels",
    "dice": "Dice of voxels named audio and the true auditory region",
    "driven_signal": "called driven, signal voxels",
    "driven_null": "called driven, voxels without signal",
    "inside_signal": "90 % interval contains the true share of variance, signal voxels",
    "inside": "the same, all voxels",
    "significant_signal": "significant at FDR .05, signal voxels",
    "significant_null": "significant at FDR .05, voxels without signal",
}
"""Figure -> its row of the page."""
PAGE = """# Maps compared with the truth

`make bench-maps` (simulated brain, real film): the maps of the demo's ridge initialisation on each of its five folds,
compared with what the simulation put into each voxel. The initialisation is fitted on training and validation TRs, as
at the end of a run. The network is not trained; of these figures, only the significance of r depends on it.

"In these TRs": the variance of each space's part in the TRs of the initialisation. It differs from the share that the
simulation aims at, because a film of minutes has few independent events.

| | {folds} | all |
|{rule}|
{rows}

Voxels of a region whose true space has the largest share, over the folds:

| region | voxels | true shares | {folds} | named instead |
|{region_rule}|
{regions}
"""


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    workdir = parser.parse_args().workdir.resolve()
    print(page([measured(initialised(workdir, fold)) for fold in range(N_FOLDS)]), end="")


def initialised(workdir: Path, fold: int) -> LoadedRun:
    """Return the demo with its ridge initialisation on a fold, fitted again as at the end of a run."""
    config = load(CONFIG, {"split.fold": fold}).config
    data = load_split(config, workdir, report_progress)
    setup = refit(TrainingSetup.build(config, data, ProcessGroup(0, 1, torch.device("cpu"))), data, report_progress)
    record = CheckpointRecord(
        file="", step=0, epoch=0, at=0.0, sha256="", bytes=0, config_hash="", store_key=data.study.key
    )
    evaluator = Evaluator.of(setup, data)
    return LoadedRun(RunDir(workdir), workdir, config, record, data, setup, setup.train_step.average.model, evaluator)


def page(folds: list[dict[str, Any]]) -> str:
    """Return the page."""
    rows = []
    for key, words in ROWS.items():
        values = [fold[key] for fold in folds]
        digits = 2 if key == "dice" else 3
        rows.append(f"| {words} | {' | '.join(f'{v:.{digits}f}' for v in [*values, np.mean(values)])} |")
    regions = []
    for n, region in enumerate(REGIONS):
        n_voxels, names = folds[0]["regions"][n]["n"], sorted({space for fold in folds for space in fold["spaces"]})
        others = {name: sum(fold["regions"][n]["named"].get(name, 0) for fold in folds) for name in names}
        others.pop(folds[0]["regions"][n]["true"])
        shares = ", ".join(f"{m} {share:.0%}" for m, share in true_modalities(region.shares).items())
        cells = " | ".join(f"{fold['regions'][n]['right']:.2f}" for fold in folds)
        instead = ", ".join(f"{name} {count}" for name, count in others.items() if count) or "–"
        regions.append(f"| {region.name} | {n_voxels} | {shares} | {cells} | {instead} |")
    return PAGE.format(
        folds=" | ".join(f"fold {n}" for n in range(len(folds))),
        rule="---|" * (len(folds) + 1) + "---",
        region_rule="---|" * (len(folds) + 3) + "---",
        rows="\n".join(rows),
        regions="\n".join(regions),
    )


def true_modalities(shares: Any) -> dict[str, float]:
    """Return the share of each modality of a region."""
    totals: dict[str, float] = {}
    for group, share in shares.items():
        totals[MODALITY_OF[group]] = totals.get(MODALITY_OF[group], 0.0) + share
    return totals


def measured(run: LoadedRun) -> dict[str, Any]:
    """Return the figures of one run."""
    folder = study_folder(run.config, run.workdir / run.config.data.data_dir, run.workdir, lambda *_: None)[0]
    truth = np.load(folder / "truth.npz")
    region_V = run.data.from_grid(truth["region_XYZ"].astype(int))
    posterior, maps = run.setup.posterior, held_out_maps(run)
    assert posterior is not None
    signal_V, largest_V = region_V > 0, posterior.share_VM.argmax(axis=1)
    shares = [true_modalities(region.shares) for region in REGIONS]
    best = np.array([posterior.spaces.index(max(share, key=lambda m: share[m])) for share in shares])
    pure_V = signal_V & (np.array([max(share.values()) for share in shares])[region_V - 1] >= PURE)
    right_V = largest_V == best[region_V - 1]
    share_V, part_VM = true_parts(run, truth, json.loads((folder / "truth.json").read_text()))
    there_V = part_VM.argmax(axis=1)
    named_V = np.where(part_VM.max(axis=1) > 0.5 * part_VM.sum(axis=1), there_V, len(posterior.spaces))
    inside_V = (posterior.low_V <= share_V) & (share_V <= posterior.high_V)
    significant_V, driven_V = maps.significant(), posterior.driven_V
    audio_V = posterior.preferred_V == posterior.spaces.index("audio")
    regions = []
    for n in range(len(REGIONS)):
        here_V = region_V == n + 1
        counts = np.bincount(largest_V[here_V], minlength=len(posterior.spaces))
        regions.append(
            {
                "n": int(here_V.sum()),
                "right": float(right_V[here_V].mean()),
                "true": posterior.spaces[best[n]],
                "named": dict(zip(posterior.spaces, counts.tolist(), strict=True)),
            }
        )
    return {
        "right": right_V[signal_V].mean(),
        "attainable": (there_V == best[region_V - 1])[signal_V].mean(),
        "right_there": (largest_V == there_V)[signal_V].mean(),
        "named": (posterior.preferred_V == named_V)[signal_V & driven_V].mean(),
        "right_pure": right_V[pure_V].mean(),
        "dice": dice(audio_V, region_V == AUDITORY),
        "driven_signal": driven_V[signal_V].mean(),
        "driven_null": driven_V[~signal_V].mean(),
        "inside_signal": inside_V[signal_V].mean(),
        "inside": inside_V.mean(),
        "significant_signal": significant_V[signal_V].mean(),
        "significant_null": significant_V[~signal_V].mean(),
        "spaces": posterior.spaces,
        "regions": regions,
    }


def dice(first_V: NDArray[np.bool_], second_V: NDArray[np.bool_]) -> float:
    """Return the overlap of two sets of voxels."""
    return float(2 * (first_V & second_V).sum() / max(1, first_V.sum() + second_V.sum()))


def true_parts(run: LoadedRun, truth: Any, description: dict[str, Any]) -> tuple[Floats, Floats]:
    """Return what the simulation put into the mean response over the TRs of the initialisation.

    Returns:
        The share of its variance that is signal (V,), and the variance of the signal's part by space (V, M).
    """
    data, posterior = run.data, run.setup.posterior
    assert posterior is not None
    split = data.split.joined if run.setup.refit_trs else data.split
    brain_XYZ = truth["brain_XYZ"]
    region_R = truth["region_XYZ"][brain_XYZ]
    region_R = region_R[region_R > 0]
    part_MTR = np.zeros((len(posterior.spaces), data.study.n_trs, len(region_R)))
    for subject in description["subjects"]:
        kernel = hrf.double_gamma(subject["hrf_peak_s"], data.study.tr_s)
        own_MTR = np.zeros_like(part_MTR)
        for group in GROUPS:
            scans = np.split(truth[f"features_{group}_TF"].astype(float), np.cumsum(data.study.scan_lengths_trs)[:-1])
            driven_TF = np.concatenate([hrf.convolve_causal(scan, kernel) for scan in scans])
            weights_FR = truth[f"sub-{subject['number']:02d}_weights_{group}_FR"].astype(float)
            share_R = np.array([region.shares.get(group, 0.0) for region in REGIONS])[region_R - 1]
            own_MTR[posterior.spaces.index(MODALITY_OF[group])] += scaled(driven_TF @ weights_FR) * np.sqrt(share_R)
        # The noise has a standard deviation of 100 / tSNR percent.
        amplitude_R = truth["percent_R"] * subject["tsnr"] / 100.0
        sd_R = own_MTR.sum(axis=0).std(axis=0)
        gain_R = amplitude_R / np.where(sd_R > 0, sd_R, 1.0) / np.sqrt(amplitude_R**2 + 1.0)
        part_MTR += own_MTR * gain_R / len(description["subjects"])
    column_XYZ = np.full(brain_XYZ.shape, -1)
    column_XYZ[truth["region_XYZ"] > 0] = np.arange(len(region_R))
    column_V = data.from_grid(column_XYZ)
    rows, blocks = split.train, split.train_blocks
    measured_TV = np.mean([data.bold[subject][rows] for subject in data.subjects], axis=0)
    part_MNR = np.stack([data.drift.apply(part_TR[rows], blocks) for part_TR in part_MTR])
    share_V, part_VM = np.zeros(data.n_voxels), np.zeros((data.n_voxels, len(posterior.spaces)))
    columns = column_V[column_V >= 0]
    share_V[column_V >= 0] = part_MNR.sum(axis=0).var(axis=0)[columns] / measured_TV.var(axis=0)[column_V >= 0]
    part_VM[column_V >= 0] = part_MNR.var(axis=1).T[columns]
    return share_V, part_VM


def scaled(x_TR: Floats) -> Floats:
    """Return columns of mean 0 and variance 1."""
    centred = x_TR - x_TR.mean(axis=0)
    sd_R = centred.std(axis=0)
    return np.asarray(centred / np.where(sd_R > 0, sd_R, 1.0))


if __name__ == "__main__":
    main()
