"""Write the files next to the scans of a simulated study: sidecars, brain masks, confounds, reference volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.regions import Grid
from giblet_train.data.simulation.study_layouts import StudyLayout

CONFOUNDS = ("csf", "white_matter", "trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


def write_side_files(
    bold: Path, layout: StudyLayout, brain_XYZ: NDArray[np.bool_], grid: Grid, n_trs: int, rng: np.random.Generator
) -> None:
    """Write the files that belong to one scan."""
    if layout.sidecars:
        name = bold.name.replace(".nii.gz", ".json")
        bold.with_name(name).write_text(json.dumps({"RepetitionTime": layout.tr_s}) + "\n")
    if layout.fmriprep:
        for suffix in ("desc-brain_mask", "boldref"):
            image = nibabel.Nifti1Image(brain_XYZ.astype(np.uint8), grid.affine)
            nibabel.save(image, bold.with_name(bold.name.replace("desc-preproc_bold", suffix)))
        rows = ["\t".join(f"{value:.6g}" for value in row) for row in rng.standard_normal((n_trs, len(CONFOUNDS)))]
        stem = bold.name.partition("_space-")[0]
        table = "\n".join(["\t".join(CONFOUNDS), *rows, ""])
        bold.with_name(f"{stem}_desc-confounds_timeseries.tsv").write_text(table)
