"""Write the files next to the scans of a simulated study: sidecars, brain masks, confounds, reference volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from nibabel import cifti2
from numpy.typing import NDArray

from giblet_train.data.readers.array_file import hdf5_package
from giblet_train.data.readers.series_path import split_dataset
from giblet_train.data.simulation.regions import Grid
from giblet_train.data.simulation.study_layouts import StudyLayout

PARCEL_VOXELS = 4
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


def write_cifti(
    path: Path, values_TV: NDArray[np.float32], brain_XYZ: NDArray[np.bool_], grid: Grid, tr_s: float
) -> None:
    """Write a series as grayordinates: two thirds of the voxels as vertices of two hemispheres, the rest as voxels."""
    n_vertices = values_TV.shape[1] // 3
    left, right = (
        cifti2.BrainModelAxis.from_surface(np.arange(n_vertices), n_vertices, f"cortex_{side}")
        for side in ("left", "right")
    )
    deep_XYZ = np.zeros(brain_XYZ.shape, bool)
    deep_XYZ[tuple(index[2 * n_vertices :] for index in np.nonzero(brain_XYZ))] = True
    deep = cifti2.BrainModelAxis.from_mask(deep_XYZ, affine=grid.affine, name="Other")
    series = cifti2.SeriesAxis(start=0, step=tr_s, size=len(values_TV))
    nibabel.save(cifti2.Cifti2Image(values_TV.astype(np.float32), (series, left + right + deep)), path)


def write_parcels(path: Path, values_TV: NDArray[np.float32], region_of_V: NDArray[np.int8]) -> None:
    """Add the means of parcels to an .h5 file; `path` names the dataset, as in `sub-01.h5::film`.

    A parcel has PARCEL_VOXELS voxels of one region.
    """
    file, dataset = split_dataset(path)
    order = np.argsort(region_of_V, kind="stable")
    parcels = np.array_split(order, len(order) // PARCEL_VOXELS)
    with hdf5_package(file).File(file, "a") as hdf5_file:
        hdf5_file[dataset] = np.stack([values_TV[:, parcel].mean(axis=1) for parcel in parcels], axis=1)
