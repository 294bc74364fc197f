"""A simulated subject in a simulated scanner: percent signal change in, a raw int16 NIfTI series out.

Shapes: T TRs, V brain voxels, R rim voxels, X Y Z the grid; masks are read in C order.
"""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from giblet_train.data.simulation.regions import REGIONS, Grid
from giblet_train.data.simulation.smooth_maps import SmoothMaps

Single = NDArray[np.float32]
Mask = NDArray[np.bool_]

HRF_PEAK_S, HRF_PEAK_SD_S = 5.2, 0.5
GAIN_MEDIAN, GAIN_LOG_SD, GAIN_RANGE = 2.5, 0.8, (0.5, 8.0)
TSNR = (50.0, 95.0)
BRAIN_UNITS, BRAIN_LOG_SD = 1000.0, 0.2
RIM_LEVEL, RIM_KEPT = 0.15, 0.85
BACKGROUND_SNR = 70.0
GOLDEN_RATIO = (math.sqrt(5.0) - 1.0) / 2.0
GZIP_LEVEL = 1


@dataclass(frozen=True)
class Subject:
    """A simulated person and the scanner settings for them."""

    number: int
    """From 1."""
    hrf_peak_s: float
    """Time to the peak of the response."""
    gain: float
    """Relative scanner units."""
    tsnr: float
    """Mean over the standard deviation of the noise."""


def draw_subject(rng: np.random.Generator, number: int) -> Subject:
    """Draw a subject. Gains follow a log-normal by a golden-ratio sequence, so few subjects span its range."""
    quantile = math.fmod(0.5 + (number - 1) * GOLDEN_RATIO, 1.0)
    gain = GAIN_MEDIAN * math.exp(GAIN_LOG_SD * NormalDist().inv_cdf(quantile))
    return Subject(
        number=number,
        hrf_peak_s=float(rng.normal(HRF_PEAK_S, HRF_PEAK_SD_S)),
        gain=min(max(gain, GAIN_RANGE[0]), GAIN_RANGE[1]),
        tsnr=float(rng.uniform(*TSNR)),
    )


@dataclass(frozen=True)
class Head:
    """What a subject's volumes look like on average."""

    mean_V: Single
    """Mean of each brain voxel in the scanner's units."""
    rim_XYZ: Mask
    """Dark voxels around the brain."""


@dataclass(frozen=True)
class Scanner:
    """Everything that turns percent signal change into a file."""

    grid: Grid
    brain_XYZ: Mask
    rim_XYZ: Mask
    maps: SmoothMaps
    """Smooth maps inside the brain."""
    tr_s: float

    def draw_head(self, rng: np.random.Generator, subject: Subject) -> Head:
        """Draw the average volume of a subject. A part of the rim is outside this subject's head."""
        mean_V = BRAIN_UNITS * subject.gain * np.exp(BRAIN_LOG_SD * self.maps.draw(rng, 1)[0])
        return Head(mean_V, self.rim_XYZ & (rng.random(self.rim_XYZ.shape) < RIM_KEPT))

    def record(self, path: Path, rng: np.random.Generator, subject: Subject, head: Head, percent_TV: Single) -> None:
        """Write `percent_TV`, signal and noise in percent of each voxel's mean, in the scanner's own units.

        The rim is dark tissue with Rician noise; all else is exactly 0.
        """
        units, mean_V = BRAIN_UNITS * subject.gain, head.mean_V
        brain_at, rim_at = _file_order(self.brain_XYZ), _file_order(head.rim_XYZ)
        volume = np.zeros(self.brain_XYZ.size, np.int16)
        with open(path, "wb") as file, gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as gzip_file:
            gzip_file.write(_header(self.grid, (*self.grid.shape, len(percent_TV)), np.dtype("i2"), self.tr_s))
            for percent_V in percent_TV:
                volume[brain_at] = _to_units(mean_V * (1.0 + percent_V / 100.0))
                real, imaginary = units / BACKGROUND_SNR * rng.standard_normal((2, len(rim_at)))
                volume[rim_at] = np.maximum(_to_units(np.hypot(RIM_LEVEL * units + real, imaginary)), 1)
                gzip_file.write(volume.tobytes())


def write_atlas(path: Path, region_XYZ: NDArray[np.int8], grid: Grid) -> None:
    """Write the regions as an atlas, with a table of their names."""
    header = _header(grid, grid.shape, np.dtype("u1"))
    path.write_bytes(gzip.compress(header + region_XYZ.astype(np.uint8).tobytes(order="F"), mtime=0))
    rows = [f"{n}\t{region.name}" for n, region in enumerate(REGIONS, 1)]
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text("\n".join(["index\tname", *rows, ""]))


def _to_units(values: NDArray[np.floating[Any]]) -> NDArray[np.int16]:
    units: NDArray[np.int16] = np.clip(np.rint(values), 0, np.iinfo(np.int16).max).astype(np.int16)
    return units


def _file_order(mask_XYZ: Mask) -> NDArray[np.intp]:
    """Return the positions of the mask's voxels, in C order, in a NIfTI volume, whose first axis runs fastest."""
    return np.ravel_multi_index(np.nonzero(mask_XYZ), mask_XYZ.shape, order="F")


def _header(grid: Grid, shape: tuple[int, ...], dtype: np.dtype[Any], tr_s: float | None = None) -> bytes:
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(dtype.newbyteorder("<"))
    header.set_zooms((grid.voxel_mm, grid.voxel_mm, grid.voxel_mm, *([tr_s] if tr_s else [])))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(grid.affine, code="mni")
    header.set_qform(grid.affine, code="mni")
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    header["descrip"] = b"giblet: simulated brain"
    return bytes(header.binaryblock) + bytes(4)
