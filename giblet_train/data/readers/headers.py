"""Open a BOLD file of any format and check its header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel

from giblet_train.data.readers.cifti_header import read_cifti_header
from giblet_train.data.readers.gifti_header import read_gifti_header
from giblet_train.data.readers.image_files import check_present, load_image
from giblet_train.data.readers.nifti_header import read_nifti_header
from giblet_train.data.readers.parcel_series import SUFFIXES, read_parcel_header
from giblet_train.data.readers.repetition_time import TrustTr
from giblet_train.data.readers.series_path import split_dataset, volume_range
from giblet_train.data.readers.volumes import Volumes, check_alike, joined
from giblet_train.schema.errors import DataError


def read_headers(paths: Sequence[Path], tr_s: float | None, trust: TrustTr = None) -> Volumes:
    """Read the headers of a subject's runs as one series. Raises DataError, also if their geometries differ."""
    runs = tuple(read_header(path, tr_s, trust) for path in paths)
    check_alike(runs)
    return joined(runs)


def read_header(path: Path, tr_s: float | None, trust: TrustTr = None) -> Volumes:
    """Read and check the header of a file, with the sidecar next to it.

    Whatever must be interpreted gets a note. Raises DataError for a file that is missing, unreadable, no time series
    or has another TR.

    Args:
        tr_s: TR of the configuration; None for that of the files.
        trust: Source of the TR if header, sidecar and configuration disagree; see `checked_tr`.
    """
    file, _ = split_dataset(path)
    if file.suffix.lower() in SUFFIXES:
        return read_parcel_header(path, tr_s, trust)
    if file.suffix.lower() == ".gii":
        return read_gifti_header(path, tr_s, trust)
    if volumes := volume_range(path):
        return _part_of(read_header(file, tr_s, trust), volumes)
    check_present(path)
    image = load_image(path, "Copy it again from its source.")
    if isinstance(image, nibabel.Nifti1Pair):
        return read_nifti_header(image, path, tr_s, trust)
    if isinstance(image, nibabel.Cifti2Image):
        return read_cifti_header(image, path, tr_s, trust)
    raise DataError(
        f"{path} is a {type(image).__name__}, which giblet does not read.",
        "Give NIfTI, CIFTI, GIFTI, or parcels as .npy, .h5 or .tsv.",
    )


def _part_of(volumes: Volumes, part: tuple[int, int]) -> Volumes:
    """Return some volumes of a file, as a scan of their own. Raises DataError if it has fewer."""
    first, last = part
    if last >= volumes.n_trs:
        raise DataError(
            f"{volumes.path} has {volumes.n_trs} volumes, 0 to {volumes.n_trs - 1}, not {last}.", "Correct it."
        )
    return volumes.part(first, last - first + 1)
