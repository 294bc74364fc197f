"""Hold a demo study against its own truth: which region answers to which kind of stimulus, and how alike subjects are.

    python benchmarks/study_truth.py STUDY [--subjects 3]

For each region: the mean correlation between pairs of subjects, and the held-out correlation of a FIR ridge (lags 1 to
8 TRs, himalaya, penalty chosen per voxel inside the training TRs) from each kind of the truth's features; five blocked
folds with gaps of 10 TRs. Prints a table on stdout. T TRs, F features, V voxels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
from himalaya.kernel_ridge import KernelRidgeCV
from numpy.typing import NDArray

LAGS_TRS = range(1, 9)
N_FOLDS, GAP_TRS = 5, 10
ALPHAS = np.logspace(0, 6, 13)
MODALITIES = {"vision": ("low_vision", "high_vision"), "audio": ("audio",), "text": ("text", "narrative")}
NULL_SAMPLE = 2000

Floats = NDArray[np.float64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--subjects", type=int, default=3, help="how many subjects to predict")
    options = parser.parse_args()
    facts = json.loads((options.study / "study.json").read_text())
    names = ["null", *(region["name"] for region in json.loads((options.study / "truth.json").read_text())["regions"])]
    truth = np.load(options.study / "truth.npz")
    kept_XYZ, region_V = sampled_voxels(truth["brain_XYZ"], truth["region_XYZ"])
    paths = sorted((options.study / "bold").glob("sub-*.nii.gz"))
    bold_STV = np.stack([read(path, kept_XYZ, facts["scan_lengths_trs"]) for path in paths])
    columns = {"ISC": isc(bold_STV)}
    for modality, groups in MODALITIES.items():
        design_TF = np.hstack([truth[f"features_{group}_TF"] for group in groups])
        design_TF = lagged(design_TF.astype(float), facts["scan_lengths_trs"])
        columns[modality] = np.mean([held_out_r(design_TF, y_TV) for y_TV in bold_STV[: options.subjects]], axis=0)
    print(f"{facts['note']}: {facts['size']}, seed {facts['seed']}, {len(paths)} subjects")
    print(f"{'region':18}" + f"{'voxels':>8}" + "".join(f"{name:>9}" for name in columns))
    for label, name in enumerate(names):
        inside = region_V == label
        print(f"{name:18}{inside.sum():8d}" + "".join(f"{values[inside].mean():9.3f}" for values in columns.values()))


def sampled_voxels(
    brain_XYZ: NDArray[np.bool_], region_XYZ: NDArray[np.int8]
) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Return all responsive voxels and at most NULL_SAMPLE null ones, with their regions."""
    null_at = np.flatnonzero(brain_XYZ & (region_XYZ == 0))
    kept_XYZ = region_XYZ > 0
    kept_XYZ.flat[np.random.default_rng(0).permutation(null_at)[:NULL_SAMPLE]] = True
    return kept_XYZ, region_XYZ[kept_XYZ]


def read(path: Path, kept_XYZ: NDArray[np.bool_], scan_lengths_trs: list[int]) -> Floats:
    """Return (T, V), each scan standardised."""
    raw_TV = np.asarray(nibabel.load(path).dataobj)[kept_XYZ].T.astype(float)
    scans = np.split(raw_TV, np.cumsum(scan_lengths_trs)[:-1])
    return np.concatenate([(scan - scan.mean(axis=0)) / scan.std(axis=0) for scan in scans])


def isc(bold_STV: Floats) -> Floats:
    """Return (V,) mean correlation over pairs of subjects."""
    n = len(bold_STV)
    pairs_PV = np.array([(bold_STV[a] * bold_STV[b]).mean(axis=0) for a in range(n) for b in range(a)])
    return np.asarray(pairs_PV.mean(axis=0))


def lagged(x_TF: Floats, scan_lengths_trs: list[int]) -> Floats:
    """Return (T, F·lags) earlier rows beside each row, none from another scan."""
    scans = []
    for scan in np.split(x_TF, np.cumsum(scan_lengths_trs)[:-1]):
        padded = np.vstack([np.zeros((max(LAGS_TRS), scan.shape[1])), scan])
        scans.append(np.hstack([padded[max(LAGS_TRS) - lag : len(padded) - lag] for lag in LAGS_TRS]))
    return np.vstack(scans)


def held_out_r(design_TF: Floats, y_TV: Floats) -> Floats:
    """Return (V,) correlation of prediction and data in the test blocks, mean over folds."""
    n_trs, folds = len(y_TV), []
    for fold in range(N_FOLDS):
        first, stop = fold * n_trs // N_FOLDS, (fold + 1) * n_trs // N_FOLDS
        test = np.arange(first, stop)
        train = np.setdiff1d(np.arange(n_trs), np.arange(first - GAP_TRS, stop + GAP_TRS))
        mean_F, sd_F = design_TF[train].mean(axis=0), design_TF[train].std(axis=0) + 1e-9
        x_TF = (design_TF - mean_F) / sd_F
        model = KernelRidgeCV(alphas=ALPHAS, cv=4, warn=False).fit(x_TF[train], y_TV[train] - y_TV[train].mean(axis=0))
        folds.append(correlation(model.predict(x_TF[test]), y_TV[test]))
    return np.asarray(np.mean(folds, axis=0))


def correlation(a_TV: Floats, b_TV: Floats) -> Floats:
    """Return (V,) Pearson's r over rows."""
    a_TV, b_TV = a_TV - a_TV.mean(axis=0), b_TV - b_TV.mean(axis=0)
    norm_V = np.sqrt((a_TV**2).sum(axis=0) * (b_TV**2).sum(axis=0) + 1e-12)
    return np.asarray((a_TV * b_TV).sum(axis=0) / norm_V)


if __name__ == "__main__":
    main()
