"""A small study in fMRIPrep's layout: runs, brain masks, confounds and events, written by the test that reads it."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from tests.made_study import AFFINE, made_volumes, write_nifti

RUN_TRS = (32, 26)
BIDS_DATA = {
    "layout": "bids",
    "video": "film.mp4",
    "annotations": "task-film_run-{run}_events.tsv",
    "bids": {"task": "film", "confounds": ["trans_?", "csf"]},
}
CONFOUNDS = ("csf", "csf_derivative1", "trans_x", "trans_y", "global_signal")


def write_bids_study(folder: Path, n_subjects: int = 2, session: str = "", space: str = "MNI152NLin2009cAsym") -> Path:
    """Write everything but the film. Each voxel holds some of the confounds `csf` and `trans_x`."""
    for subject in range(1, n_subjects + 1):
        for run, n_trs in enumerate(RUN_TRS, 1):
            write_run(folder, subject, run, n_trs, session, space)
    for run, n_trs in enumerate(RUN_TRS, 1):
        onsets = range(0, int(n_trs * 1.5) - 6, 6)
        lines = [f"{onset}\t6\tscene {run}-{onset}\tn/a" for onset in onsets]
        text = "\n".join(["onset\tduration\ttrial_type\tlocation", *lines])
        (folder / f"task-film_run-{run}_events.tsv").write_text(text + "\n")
    return folder


def write_run(folder: Path, subject: int, run: int, n_trs: int, session: str = "", space: str = "MNI152NLin2009cAsym"):
    """Write one run of one subject: BOLD, brain mask, confounds."""
    parts = [f"sub-{subject:02d}", *([f"ses-{session}"] if session else [])]
    stem = "_".join([*parts, "task-film", f"run-{run}"])
    func = folder.joinpath(*parts, "func")
    func.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(10 * subject + run)
    confounds = random.standard_normal((n_trs, len(CONFOUNDS))) * (500.0, 9.0, 0.05, 0.02, 80.0)
    volumes = made_volumes(seed=10 * subject + run, n_trs=n_trs).astype(np.float32)
    inside = volumes.any(axis=-1)
    volumes[inside] += np.outer(random.standard_normal(inside.sum()), confounds[:, 0] * 0.3).astype(np.float32)
    volumes[inside] += np.outer(random.standard_normal(inside.sum()), confounds[:, 2] * 900).astype(np.float32)
    write_nifti(func / f"{stem}_space-{space}_desc-preproc_bold.nii.gz", volumes)
    brain = inside.copy()
    brain[1] = False
    nibabel.save(
        nibabel.Nifti1Image(brain.astype(np.uint8), AFFINE), func / f"{stem}_space-{space}_desc-brain_mask.nii.gz"
    )
    rows = [[f"{value:.8g}" for value in row] for row in confounds]
    rows[0][1] = "n/a"
    table = "\n".join("\t".join(row) for row in [CONFOUNDS, *rows])
    (func / f"{stem}_desc-confounds_timeseries.tsv").write_text(table + "\n")
