"""The demo study: a film, its annotations and raw fMRI of simulated brains whose truth is known and written down.

Everything in it is a function of the film and the seed; it is computed on one thread, for on several the sums come out
in another order and the same seed in other bytes. The folder appears whole or not at all.
Shapes: T TRs, F features, V brain voxels, R responsive voxels, S subjects, X Y Z the grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

import giblet_train
from giblet_train.data.atomic_dir import atomic_directory
from giblet_train.data.simulation.demo_film import user_film
from giblet_train.data.simulation.group import SimulatedGroup, draw_cohort
from giblet_train.data.simulation.regions import COARSE, FINE, REGIONS, Grid, Mask, ellipsoid_brain, template_brain
from giblet_train.data.simulation.scanner import write_atlas
from giblet_train.data.simulation.stimulus import FilmFacts, SimulatedStimulus, prepare_stimulus
from giblet_train.schema.errors import ConfigError
from giblet_train.schema.progress import ProgressCallback

TR_S = 1.5
ATLAS = "atlas.nii.gz"
MAKER = 2
"""Raised whenever the same seed gives other bytes."""

SizeName = Literal["tiny", "small", "full", "scale", "sherlock"]


@dataclass(frozen=True)
class Size:
    """Size of a demo study."""

    grid: Grid
    scan_lengths_trs: tuple[int, ...]
    n_subjects: int
    repeated: bool = False
    """See `SimulatedStimulus`."""
    generated: bool = False
    """See `SimulatedStimulus`."""

    def showing(self, seed: int) -> SimulatedStimulus:
        """Return how the film is shown to the subjects of this study."""
        return SimulatedStimulus(self.scan_lengths_trs, TR_S, seed, self.repeated, self.generated)

    def brain(self) -> tuple[Mask, Mask]:
        """Return brain and rim, both (X, Y, Z): the template's on the fine grid, an ellipsoid on the coarse one."""
        return template_brain(self.grid) if self.grid == FINE else ellipsoid_brain(self.grid)


SIZES: Mapping[str, Size] = {
    "tiny": Size(COARSE, (30, 30), 3, generated=True),
    "small": Size(COARSE, (200, 197), 5),
    "full": Size(FINE, (200, 197), 17),
    "scale": Size(FINE, (460, 460), 17, repeated=True),
    "sherlock": Size(COARSE, (946, 1030), 5, generated=True),
}


class StudyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Content of study.json: description of a finished demo study."""

    size: str
    seed: int
    n_subjects: int
    tr_s: float
    scan_lengths_trs: tuple[int, ...]
    grid_voxels: tuple[int, int, int]
    voxel_mm: float
    brain_voxels: int
    null_share: float
    region_voxels: dict[str, int]
    film: FilmFacts
    note: str
    maker: int
    giblet_version: str
    numpy_version: str
    files: dict[str, str]
    """Path in the folder -> SHA-256."""


def simulate_study(
    out: Path,
    size: SizeName,
    *,
    seed: int = 0,
    film: Path | None = None,
    n_subjects: int | None = None,
    progress: ProgressCallback = lambda sentence, fraction: None,
) -> StudyFacts:
    """Make the demo study at `out`; leave a finished one of the same request unchanged.

    Two processes that make one folder wait for each other. Raises ConfigError if `out` contains anything else,
    DataError for an unsuitable film.

    Args:
        film: Film to use instead of the size's own; its annotations are in a .csv of the same name.
    """
    out = out.absolute()
    subjects = SIZES[size].n_subjects if n_subjects is None else n_subjects
    old_facts = _finished(out)
    if old_facts is None:
        with atomic_directory(out) as folder:
            old_facts = _finished(out)
            if old_facts is None:
                with threadpool_limits(1):
                    facts = _build(folder, size, seed, film, subjects, progress)
                folder.rename(out)
                return facts
    _check_same_request(out, old_facts, size, seed, film, subjects)
    progress(f"{out} holds this study already; it stays as it is.", 1.0)
    return old_facts


def _finished(out: Path) -> StudyFacts | None:
    try:
        return msgspec.json.decode((out / "study.json").read_bytes(), type=StudyFacts)
    except FileNotFoundError:
        if out.exists() and any(out.iterdir()):
            raise ConfigError(f"{out} holds other things, and no demo study.", "Choose another folder.") from None
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{out}/study.json is not a demo study's: {error}.", "Choose another folder.") from None


def _check_same_request(out: Path, facts: StudyFacts, size: str, seed: int, film: Path | None, n_subjects: int) -> None:
    request = {"size": size, "seed": seed, "n_subjects": n_subjects, "maker": MAKER}
    existing = {key: getattr(facts, key) for key in request}
    differs = [f"{key} {existing[key]}, not {value}" for key, value in request.items() if existing[key] != value]
    if film is not None and user_film(film).sha256 != facts.film.sha256:
        differs.append("another film")
    if differs:
        raise ConfigError(f"{out} holds another demo study: {', '.join(differs)}.", "Choose or delete a folder.")


def _build(
    folder: Path, name: SizeName, seed: int, film: Path | None, n_subjects: int, progress: ProgressCallback
) -> StudyFacts:
    size = SIZES[name]
    film_facts, features_TF = prepare_stimulus(folder, film, size.showing(seed), progress)
    cohort = draw_cohort(seed, size.grid, *size.brain(), features_TF, size.scan_lengths_trs, TR_S)
    (folder / "bold").mkdir()
    subjects, arrays = [], cohort.shared_truth()
    for number in range(1, n_subjects + 1):
        progress(f"scanning subject {number} of {n_subjects}", 0.5 + 0.5 * (number - 1) / n_subjects)
        subject, truth = cohort.scan_subject(folder / "bold" / f"sub-{number:02d}.nii.gz", number)
        subjects.append(subject)
        arrays |= truth
    write_atlas(folder / ATLAS, cohort.region_XYZ, size.grid)
    np.savez_compressed(folder / "truth.npz", allow_pickle=False, **arrays)
    (folder / "truth.json").write_bytes(format_json(cohort.described_truth(subjects)))
    facts = _facts(folder, name, cohort, n_subjects, film_facts)
    (folder / "study.json").write_bytes(format_json(facts))
    return facts


def _facts(folder: Path, name: str, cohort: SimulatedGroup, n_subjects: int, film: FilmFacts) -> StudyFacts:
    size = SIZES[name]
    region_of_V = cohort.region_of_V
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return StudyFacts(
        size=name,
        seed=cohort.seed,
        n_subjects=n_subjects,
        tr_s=TR_S,
        scan_lengths_trs=size.scan_lengths_trs,
        grid_voxels=size.grid.shape,
        voxel_mm=size.grid.voxel_mm,
        brain_voxels=len(region_of_V),
        null_share=round(float((region_of_V == 0).mean()), 4),
        region_voxels={region.name: int((region_of_V == n).sum()) for n, region in enumerate(REGIONS, 1)},
        film=film,
        note=f"simulated brain, {film.source} film",
        maker=MAKER,
        giblet_version=giblet_train.__version__,
        numpy_version=np.__version__,
        files={path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    )


def format_json(value: object) -> bytes:
    """Format a record as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
